//! `hw_catalog`: what Headwater tells of itself.

use std::sync::Arc;

use super::System;
use super::rows::Table;
use crate::catalog::{Relation, RelationKind};
use crate::sql::shown_option;

pub fn fill(system: &System, name: &str, table: &mut Table) {
    match name {
        "hw_relations" => relations(system, table),
        "hw_sources" => sources(system, table),
        "hw_source_partitions" => source_partitions(system, table),
        "hw_sinks" => sinks(system, table),
        "hw_view_errors" => view_errors(system, table),
        "hw_settings" => settings(system, table),
        "hw_progress" => progress(system, table),
        "hw_jobs" => jobs(system, table),
        // The rest is known to the workers alone.
        _ => {}
    }
}

fn relations(system: &System, table: &mut Table) {
    for relation in system.catalog.relations() {
        let (rows, bytes) = system.held(relation.id);
        table.row([
            ("id", relation.id.0.into()),
            ("oid", relation.oid.into()),
            ("schema", relation.schema.clone().into()),
            ("name", relation.name.clone().into()),
            ("kind", relation.kind.noun().into()),
            ("columns", relation.columns.len().into()),
            ("rows", rows.into()),
            ("bytes", bytes.into()),
            ("definition", relation.definition.clone().into()),
        ]);
    }
}

/// Relations with a connector: sinks, or those that are filled.
fn connected(system: &System, sinks: bool) -> impl Iterator<Item = (&Relation, &str)> {
    let wanted = move |relation: &&Arc<Relation>| (relation.kind == RelationKind::Sink) == sinks;
    system.catalog.relations().filter(wanted).filter_map(|relation| Some((relation.as_ref(), relation.connector()?)))
}

fn options(relation: &Relation) -> String {
    let options = relation.options.iter().map(|(name, value)| format!("{name}='{}'", shown_option(name, value)));
    options.collect::<Vec<_>>().join(", ")
}

fn sources(system: &System, table: &mut Table) {
    for (relation, connector) in connected(system, false) {
        let counted = system.counters.of_source(relation.id);
        table.row([
            ("id", relation.id.0.into()),
            ("schema", relation.schema.clone().into()),
            ("name", relation.name.clone().into()),
            ("connector", connector.into()),
            ("options", options(relation).into()),
            ("rows", counted.rows.into()),
            ("bytes", counted.bytes.into()),
            ("dead_letters", counted.dead_letters.into()),
            ("finished", counted.finished.into()),
            ("last_error", counted.last_error.into()),
        ]);
    }
}

/// Where sources stand: by partition if they have some.
fn source_partitions(system: &System, table: &mut Table) {
    for (relation, _) in connected(system, false) {
        let Some(position) = system.published.positions.get(&relation.id) else { continue };
        let parts = match position.get("next").and_then(|next| next.as_object()) {
            Some(next) => {
                next.iter().map(|(partition, offset)| (Some(partition.clone()), offset.to_string())).collect()
            }
            None => vec![(None, position.to_string())],
        };
        for (partition, position) in parts {
            table.row([
                ("id", relation.id.0.into()),
                ("schema", relation.schema.clone().into()),
                ("name", relation.name.clone().into()),
                ("partition", partition.into()),
                ("position", position.into()),
            ]);
        }
    }
}

fn sinks(system: &System, table: &mut Table) {
    for (relation, connector) in connected(system, true) {
        table.row([
            ("id", relation.id.0.into()),
            ("schema", relation.schema.clone().into()),
            ("name", relation.name.clone().into()),
            ("connector", connector.into()),
            ("options", options(relation).into()),
            ("last_error", system.counters.of_source(relation.id).last_error.into()),
        ]);
    }
}

fn view_errors(system: &System, table: &mut Table) {
    for relation in system.catalog.relations().filter(|relation| relation.kind.is_kept()) {
        for (error, weight) in system.published.errors(relation.id).iter() {
            table.row([
                ("id", relation.id.0.into()),
                ("schema", relation.schema.clone().into()),
                ("name", relation.name.clone().into()),
                ("sqlstate", String::from_utf8_lossy(&error.code).into_owned().into()),
                ("message", error.message.clone().into()),
                ("rows", weight.into()),
            ]);
        }
    }
}

fn settings(system: &System, table: &mut Table) {
    let settings = system.settings.lock().expect("no holder of the settings panics");
    for shown in settings.all() {
        table.row([
            ("name", shown.name.into()),
            ("setting", shown.value.into()),
            ("description", shown.description.into()),
        ]);
    }
}

fn jobs(system: &System, table: &mut Table) {
    for job in &system.jobs {
        let (done, total) = job.rows;
        let percent = (done * 100).checked_div(total).map_or(100, |percent| percent.min(100));
        table.row([
            ("id", job.id.into()),
            ("statement", job.what.clone().into()),
            ("state", job.state.into()),
            ("progress", format!("{percent}%").into()),
            ("rows_done", done.into()),
            ("rows_total", total.into()),
            ("started_at", job.started_at.into()),
        ]);
    }
}

fn progress(system: &System, table: &mut Table) {
    let moment = system.published.moment;
    table.row([("hw_step", moment.step.0.into()), ("published_at", moment.now.into())]);
}
