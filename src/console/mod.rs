//! HTTP: is the server alive, is it ready, what does it count. The only room that knows HTTP.

mod metrics;
mod server;

pub use metrics::{Kind, Metric};
pub use server::{Pages, serve};
