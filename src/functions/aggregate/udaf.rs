//! The same aggregates for DataFusion, so that a query and a view agree in every bit: exact sums, PostgreSQL's types.
//!
//! Each stands in for DataFusion's aggregate of its name and leaves to it the types of arguments that it does not know.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{filter, is_not_null};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::{
    average, bool_and_or, correlation, covariance, min_max, regr, stddev, sum, variance,
};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

use super::{Accumulate, Aggregation, MakeAccumulate, find};
use crate::error::SqlError;
use crate::zset::Weight;

/// What to register over DataFusion's own aggregates.
pub fn kept_aggregates() -> Vec<AggregateUDF> {
    let inner = [
        sum::sum_udaf(),
        average::avg_udaf(),
        min_max::min_udaf(),
        min_max::max_udaf(),
        bool_and_or::bool_and_udaf(),
        bool_and_or::bool_or_udaf(),
        variance::var_samp_udaf(),
        variance::var_pop_udaf(),
        stddev::stddev_udaf(),
        stddev::stddev_pop_udaf(),
        covariance::covar_samp_udaf(),
        covariance::covar_pop_udaf(),
        correlation::corr_udaf(),
        regr::regr_slope_udaf(),
        regr::regr_intercept_udaf(),
        regr::regr_r2_udaf(),
        regr::regr_avgx_udaf(),
        regr::regr_avgy_udaf(),
        regr::regr_sxx_udaf(),
        regr::regr_syy_udaf(),
        regr::regr_sxy_udaf(),
        regr::regr_count_udaf(),
    ];
    inner.into_iter().map(|inner| AggregateUDF::from(Kept::new(inner))).collect()
}

/// `min(value)`, for plans that are built here.
pub fn least_of(value: Expr) -> Expr {
    AggregateUDF::from(Kept::new(min_max::min_udaf())).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept {
    inner: Arc<AggregateUDF>,
    signature: Signature,
}

impl Kept {
    fn new(inner: Arc<AggregateUDF>) -> Self {
        Self { inner, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn find<'a>(&self, fields: impl IntoIterator<Item = &'a FieldRef>, append_only: bool) -> Option<Aggregation> {
        let types: Vec<DataType> = fields.into_iter().map(|field| field.data_type().clone()).collect();
        find(self.inner.name(), &types, append_only)
    }
}

impl AggregateUDFImpl for Kept {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if find(self.name(), types, true).is_some() {
            return Ok(types.to_vec());
        }
        let fields: Vec<FieldRef> = types.iter().map(|kind| Arc::new(Field::new("", kind.clone(), true))).collect();
        let coerced = fields_with_udf(&fields, self.inner.as_ref())?;
        Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match find(self.name(), types, true) {
            Some(found) => Ok(found.result),
            None => self.inner.return_type(types),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let Some(found) = self.find(args.input_fields, true) else { return self.inner.state_fields(args) };
        let state = (found.make)();
        if args.is_distinct && state.minds_duplicates() {
            let item = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
            return Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "values"), item, true))]);
        }
        let fields = state.state_types().into_iter().enumerate();
        Ok(fields
            .map(|(part, kind)| Arc::new(Field::new(format_state_name(args.name, &part.to_string()), kind, true)))
            .collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let Some(found) = self.find(args.expr_fields, true) else { return self.inner.accumulator(args) };
        let one = One::new(&found.make, false);
        Ok(match args.is_distinct && one.state.minds_duplicates() {
            true => Box::new(Different::new(one, args.expr_fields[0].data_type().clone())),
            false => Box::new(one),
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.find(args.expr_fields, false) {
            Some(found) if !args.is_distinct => Ok(Box::new(One::new(&found.make, true))),
            Some(_) => self.accumulator(args),
            None => self.inner.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match self.find(args.expr_fields, true) {
            Some(found) => !args.is_distinct || !(found.make)().minds_duplicates(),
            None => self.inner.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match self.find(args.expr_fields, true) {
            Some(found) => Ok(Box::new(Many::new(found.make))),
            None => self.inner.create_groups_accumulator(args),
        }
    }
}

/// The results of these groups; the first failure fails the query.
fn results(state: &dyn Accumulate, groups: &[u32]) -> Result<ArrayRef> {
    let results = state.results(groups);
    match results.failed.into_iter().next() {
        Some((_, error)) => Err(DataFusionError::External(Box::new(SqlError::from(error)))),
        None => Ok(results.column),
    }
}

/// One group.
struct One {
    state: Box<dyn Accumulate>,
    /// Whether rows can leave again, as they leave the frame of a window.
    slides: bool,
}

impl One {
    fn new(make: &MakeAccumulate, slides: bool) -> Self {
        let mut state = make();
        state.grow(1);
        Self { state, slides }
    }

    fn add(&mut self, values: &[ArrayRef], weights: Option<&[Weight]>) {
        let rows = values.first().map_or(0, |column| column.len());
        self.state.add(&vec![0; rows], values, weights);
    }
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one group of {} bytes", self.state.bytes())
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values, None);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |column| column.len());
        self.add(values, Some(&vec![-1; rows]));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        self.slides
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&results(self.state.as_ref(), &[0])?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.state.save(&[0]).iter().map(|part| ScalarValue::try_from_array(part, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |column| column.len());
        self.state.load(&vec![0; rows], states);
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.state.bytes()
    }
}

/// One group of which every value counts once.
#[derive(Debug)]
struct Different {
    one: One,
    seen: HashSet<ScalarValue>,
    data_type: DataType,
}

impl Different {
    fn new(one: One, data_type: DataType) -> Self {
        Self { one, seen: HashSet::new(), data_type }
    }
}

impl Accumulator for Different {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        // Of 0.0 and -0.0, and of several NaN, one counts.
        let column = crate::zset::canonical(&values[0]);
        let mut fresh: Vec<u32> = Vec::new();
        for row in 0..column.len() {
            if column.is_valid(row) && self.seen.insert(ScalarValue::try_from_array(&column, row)?) {
                fresh.push(row as u32);
            }
        }
        let column = arrow::compute::take(&column, &UInt32Array::from(fresh), None)?;
        self.one.add(&[column], None);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.one.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> = self.seen.iter().cloned().collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.data_type))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        use arrow::array::AsArray;
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.update_batch(&[values]))
    }

    fn size(&self) -> usize {
        self.one.size() + self.seen.iter().map(ScalarValue::size).sum::<usize>()
    }
}

/// Many groups at once.
struct Many {
    make: MakeAccumulate,
    state: Box<dyn Accumulate>,
    groups: usize,
}

impl Many {
    fn new(make: MakeAccumulate) -> Self {
        let state = make();
        Self { make, state, groups: 0 }
    }

    fn grow(&mut self, groups: usize) {
        if groups > self.groups {
            self.state.grow(groups);
            self.groups = groups;
        }
    }

    /// The numbers of the groups that leave, which are then forgotten; the numbers of the others go down.
    fn emit<T>(&mut self, emit_to: EmitTo, take: impl Fn(&dyn Accumulate, &[u32]) -> Result<T>) -> Result<T> {
        let leaving = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(groups) => groups,
        };
        let taken = take(self.state.as_ref(), &numbers(0, leaving))?;
        let staying = self.groups - leaving;
        let mut rest = (self.make)();
        rest.grow(staying);
        if staying > 0 {
            rest.load(&numbers(0, staying), &self.state.save(&numbers(leaving, self.groups)));
        }
        (self.state, self.groups) = (rest, staying);
        Ok(taken)
    }
}

fn numbers(from: usize, to: usize) -> Vec<u32> {
    (from as u32..to as u32).collect()
}

fn as_groups(group_indices: &[usize]) -> Vec<u32> {
    group_indices.iter().map(|group| *group as u32).collect()
}

/// The rows that a filter lets through; NULL is not true.
fn filtered(
    values: &[ArrayRef],
    groups: Vec<u32>,
    opt_filter: Option<&BooleanArray>,
) -> Result<(Vec<ArrayRef>, Vec<u32>)> {
    let Some(keep) = opt_filter else { return Ok((values.to_vec(), groups)) };
    let keep = match keep.null_count() {
        0 => keep.clone(),
        _ => arrow::compute::and(&is_not_null(keep)?, &BooleanArray::new(keep.values().clone(), None))?,
    };
    let kept = values.iter().map(|column| Ok(filter(column, &keep)?)).collect::<Result<_>>()?;
    Ok((kept, groups.into_iter().zip(keep.values().iter()).filter_map(|(group, keep)| keep.then_some(group)).collect()))
}

impl GroupsAccumulator for Many {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let (values, groups) = filtered(values, as_groups(group_indices), opt_filter)?;
        self.state.add(&groups, &values, None);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.emit(emit_to, results)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.emit(emit_to, |state, groups| Ok(state.save(groups)))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        self.state.load(&as_groups(group_indices), values);
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut state = (self.make)();
        state.grow(rows);
        let (values, groups) = filtered(values, numbers(0, rows), opt_filter)?;
        state.add(&groups, &values, None);
        Ok(state.save(&numbers(0, rows)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.state.bytes()
    }
}
