//! `OVER (w ORDER BY …)` with the WINDOW clause's definition of `w` written out: the planner leaves it out.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, NamedWindowDefinition, NamedWindowExpr, Select, VisitMut, WindowSpec, WindowType, visit_expressions_mut,
};

use super::grammar::fold;

/// Writes out the definitions that a SELECT builds upon.
pub(super) fn write_out(select: &mut Select) {
    let mut known: Vec<(String, WindowSpec)> = Vec::new();
    for NamedWindowDefinition(name, definition) in &mut select.named_window {
        if let NamedWindowExpr::WindowSpec(spec) = definition {
            complete(spec, &known);
            known.push((fold(name), spec.clone()));
        }
    }
    if !known.is_empty() {
        let _: ControlFlow<()> = select.projection.visit_with(&known);
    }
}

trait VisitWith {
    fn visit_with(&mut self, known: &[(String, WindowSpec)]) -> ControlFlow<()>;
}

impl<T: VisitMut> VisitWith for Vec<T> {
    fn visit_with(&mut self, known: &[(String, WindowSpec)]) -> ControlFlow<()> {
        visit_expressions_mut(self, |expression: &mut Expr| {
            if let Expr::Function(function) = expression
                && let Some(WindowType::WindowSpec(spec)) = &mut function.over
            {
                complete(spec, known);
            }
            ControlFlow::Continue(())
        })
    }
}

fn complete(spec: &mut WindowSpec, known: &[(String, WindowSpec)]) {
    let Some(name) = spec.window_name.as_ref().map(fold) else { return };
    let Some((_, base)) = known.iter().find(|(other, _)| *other == name) else { return };
    spec.window_name = None;
    if spec.partition_by.is_empty() {
        spec.partition_by.clone_from(&base.partition_by);
    }
    if spec.order_by.is_empty() {
        spec.order_by.clone_from(&base.order_by);
    }
}
