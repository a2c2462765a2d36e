//! Errors and notices as the fields of ErrorResponse and NoticeResponse.

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use crate::error::SqlError;
use crate::session::{Notice, Severity as NoticeSeverity, remedy};

/// How bad it is: whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// The connection ends with it.
    Fatal,
}

/// The message that tells a client of an error.
pub fn error_response(error: &SqlError, severity: Severity) -> PgWireBackendMessage {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let hint = error.hint.clone().or_else(|| remedy(error));
    let mut fields = common(severity, error.code.as_str(), &error.message, &error.detail, &hint);
    if let Some(position) = error.position {
        fields.push((b'P', position.to_string()));
    }
    PgWireBackendMessage::ErrorResponse(ErrorResponse::new(fields))
}

/// The message that tells a client of something that is no error.
pub fn notice_response(notice: &Notice) -> PgWireBackendMessage {
    let severity = match notice.severity {
        NoticeSeverity::Notice => "NOTICE",
        NoticeSeverity::Warning => "WARNING",
    };
    let fields = common(severity, notice.code, &notice.message, &notice.detail, &notice.hint);
    PgWireBackendMessage::NoticeResponse(NoticeResponse::new(fields))
}

/// S and V (never translated), C the SQLSTATE, M the message, D the detail, H the hint.
fn common(
    severity: &str,
    code: &str,
    message: &str,
    detail: &Option<String>,
    hint: &Option<String>,
) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', code.to_string()),
        (b'M', plain(message)),
    ];
    fields.extend(detail.as_deref().map(|detail| (b'D', plain(detail))));
    fields.extend(hint.as_deref().map(|hint| (b'H', plain(hint))));
    fields
}

/// A zero byte would end the field.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
