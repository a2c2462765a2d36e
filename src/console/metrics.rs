//! Figures in Prometheus's text format.

use std::fmt::Write;

/// Whether a figure only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// A figure with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Without the prefix `headwater_`.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// Labels with their values, and the figure.
    pub samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Metric {
    /// A figure without labels.
    pub fn one(name: &'static str, kind: Kind, help: &'static str, value: f64) -> Metric {
        Metric { name, kind, help, samples: vec![(Vec::new(), value)] }
    }
}

/// The text that Prometheus scrapes.
pub fn print(metrics: &[Metric]) -> String {
    let mut out = String::new();
    for metric in metrics.iter().filter(|metric| !metric.samples.is_empty()) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let name = metric.name;
        let _ = writeln!(out, "# HELP headwater_{name} {}\n# TYPE headwater_{name} {kind}", metric.help);
        for (labels, value) in &metric.samples {
            let _ = writeln!(out, "headwater_{name}{} {value}", label_set(labels));
        }
    }
    out
}

fn label_set(labels: &[(&'static str, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_printed_as_prometheus_reads_them() {
        let rows = Metric {
            name: "relation_rows",
            kind: Kind::Gauge,
            help: "Rows held.",
            samples: vec![(vec![("relation", "a\"b".to_string())], 3.0)],
        };
        let empty = Metric { name: "none", kind: Kind::Gauge, help: "", samples: vec![] };
        let text = print(&[Metric::one("steps_total", Kind::Counter, "Steps.", 7.0), rows, empty]);
        let expected = "# HELP headwater_steps_total Steps.\n# TYPE headwater_steps_total counter\n\
                        headwater_steps_total 7\n\
                        # HELP headwater_relation_rows Rows held.\n# TYPE headwater_relation_rows gauge\n\
                        headwater_relation_rows{relation=\"a\\\"b\"} 3\n";
        assert_eq!(text, expected);
    }
}
