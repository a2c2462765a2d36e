//! Random queries of every shape, nested up to three deep.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use super::scalars::{aggregate, comparison, predicate, scalar, shown};
use super::tables::{Column, Kind, Relation, columns_of, scope_of};

/// A query may multiply so many tables, so that a debug build can answer it often.
const SIZE_MAX: u32 = 3;

/// A query with what is known of its answer.
pub struct Select {
    pub sql: String,
    /// Named c0, c1 and so on.
    pub columns: Vec<Column>,
    pub size: u32,
    /// Whether SQL leaves the answer open.
    pub open: bool,
    /// The queries inside that stand for themselves.
    pub parts: Vec<String>,
}

/// What a FROM clause gives, with the text that follows it up to WHERE.
struct From {
    text: String,
    scope: Vec<Column>,
    size: u32,
}

/// Writes random queries over some relations.
pub struct Query<'a> {
    random: &'a mut SmallRng,
    relations: Vec<Relation>,
    aliases: usize,
    /// Queries of WITH in whose scope the writer is.
    named: usize,
    open: bool,
    parts: Vec<String>,
}

impl<'a> Query<'a> {
    pub fn over(random: &'a mut SmallRng, relations: Vec<Relation>) -> Self {
        Self { random, relations, aliases: 0, named: 0, open: false, parts: Vec::new() }
    }

    /// A query, nested up to so many levels.
    pub fn write(mut self, depth: u32) -> Select {
        let (sql, columns, size) = match self.random.random_range(0..30) {
            0 => self.may_fail(),
            _ => self.select(depth),
        };
        Select { sql, columns, size, open: self.open, parts: self.parts }
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    fn alias(&mut self, letter: &str) -> String {
        self.aliases += 1;
        format!("{letter}{}", self.aliases)
    }

    fn select(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        match self.random.random_range(0..24) {
            0..5 => self.projection(depth),
            5..10 => self.grouping(depth),
            10..13 => self.set_operation(depth),
            13..16 => self.windows(depth),
            16..19 => self.first_rows(depth),
            19 => self.ranked(depth),
            20 => self.with(depth),
            21 => self.recursive(),
            22 => self.unnested(depth),
            _ => self.lateral(depth),
        }
    }

    /// A relation, a list of values, or a query in parentheses; with its columns.
    fn source(&mut self, depth: u32, room: u32) -> (String, Vec<Column>, u32) {
        if depth > 0 && self.chance(0.4) {
            let (sql, columns, size) = self.select(depth - 1);
            if size <= room {
                if self.named == 0 {
                    self.parts.push(sql.clone());
                }
                return (format!("({sql})"), columns, size);
            }
        }
        if self.chance(0.03) {
            let columns = [Kind::Int, Kind::Text].into_iter().enumerate();
            let columns = columns.map(|(index, kind)| Column { name: format!("c{index}"), kind }).collect();
            return (
                "(SELECT * FROM (VALUES (1, 'a'), (2, NULL), (1, 'a'), (3, '')) AS v (c0, c1))".into(),
                columns,
                1,
            );
        }
        let usable: Vec<&Relation> = self.relations.iter().filter(|relation| relation.size <= room).collect();
        let chosen = (*usable.choose(self.random).expect("tables are of size one")).clone();
        self.open |= chosen.open;
        (chosen.name, chosen.columns, chosen.size)
    }

    fn joined(&mut self, depth: u32) -> From {
        let (first, columns, size) = self.source(depth, 2);
        let alias = self.alias("a");
        let mut from = From { text: format!("{first} AS {alias}"), scope: scope_of(&columns, &alias), size };
        while from.size < SIZE_MAX && self.chance(0.4) {
            self.join(&mut from, depth);
        }
        from
    }

    fn join(&mut self, from: &mut From, depth: u32) {
        let (other, columns, size) = self.source(depth.saturating_sub(1), SIZE_MAX - from.size);
        let alias = self.alias("b");
        let right = scope_of(&columns, &alias);
        let both: Vec<Column> = from.scope.iter().chain(&right).cloned().collect();
        let pairs: Vec<(&Column, &Column)> = from
            .scope
            .iter()
            .flat_map(|left| right.iter().map(move |right| (left, right)))
            .filter(|(left, right)| left.kind == right.kind && left.kind != Kind::Approximate)
            .collect();
        let Some((left, on)) = pairs.choose(self.random) else { return };
        let join = ["JOIN", "JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];
        let join = *join.choose(self.random).expect("some");
        let mut condition = format!("{} = {}", left.name, on.name);
        // PostgreSQL's full joins know equality alone.
        if join != "FULL JOIN" {
            match self.random.random_range(0..10) {
                0 => condition = format!("{} IS NOT DISTINCT FROM {}", left.name, on.name),
                1 if from.size + size < SIZE_MAX => {
                    condition = format!("{} {} {}", left.name, comparison(self.random), on.name);
                }
                2..5 => condition = format!("{condition} AND {}", predicate(self.random, &both, 1)),
                _ => {}
            }
        }
        from.text = match join == "JOIN" && from.size + size < SIZE_MAX && self.chance(0.1) {
            true => format!("{} CROSS JOIN {other} AS {alias}", from.text),
            false => format!("{} {join} {other} AS {alias} ON {condition}", from.text),
        };
        from.scope = both;
        from.size += size;
    }

    /// A FROM clause, perhaps with a WHERE.
    fn filtered(&mut self, depth: u32) -> From {
        let mut from = self.joined(depth);
        if self.chance(0.5) {
            let condition = self.condition(&from.scope, depth);
            from.text = format!("{} WHERE {condition}", from.text);
        }
        from
    }

    /// A predicate that may look into other relations.
    fn condition(&mut self, scope: &[Column], depth: u32) -> String {
        if self.chance(0.6) {
            return predicate(self.random, scope, 2);
        }
        let one = self.subquery_condition(scope, depth);
        match self.random.random_range(0..6) {
            0 => format!("{one} OR {}", predicate(self.random, scope, 1)),
            1 => format!("{one} AND {}", predicate(self.random, scope, 1)),
            2 => format!("NOT ({one})"),
            _ => one,
        }
    }

    fn subquery_condition(&mut self, scope: &[Column], depth: u32) -> String {
        let (inner, columns, _) = self.source(depth.saturating_sub(1), 1);
        let alias = self.alias("s");
        let inner_scope = scope_of(&columns, &alias);
        let filter = self.inner_filter(scope, &inner_scope);
        let from = format!("{inner} AS {alias}{filter}");
        let pairs: Vec<(&Column, &Column)> = scope
            .iter()
            .flat_map(|outer| inner_scope.iter().map(move |inner| (outer, inner)))
            .filter(|(outer, inner)| outer.kind == inner.kind && outer.kind != Kind::Approximate)
            .collect();
        let pair = pairs.choose(self.random).map(|(outer, inner)| (outer.name.clone(), inner.name.clone(), inner.kind));
        let Some((outer, inner, kind)) = pair else { return format!("EXISTS (SELECT 1 FROM {from})") };
        let operator = comparison(self.random);
        match self.random.random_range(0..10) {
            0 | 1 => format!("{outer} IN (SELECT {inner} FROM {from})"),
            2 | 3 => format!("{outer} NOT IN (SELECT {inner} FROM {from})"),
            4 => format!("EXISTS (SELECT 1 FROM {from})"),
            5 => format!("NOT EXISTS (SELECT 1 FROM {from})"),
            6 => format!("{outer} {operator} ANY (SELECT {inner} FROM {from})"),
            7 => format!("{outer} {operator} ALL (SELECT {inner} FROM {from})"),
            _ if kind == Kind::Bool => format!("{outer} = (SELECT bool_or({inner}) FROM {from})"),
            _ => format!("{outer} {operator} (SELECT max({inner}) FROM {from})"),
        }
    }

    /// The WHERE of a subquery, mostly one that names the rows around it.
    fn inner_filter(&mut self, outer: &[Column], inner: &[Column]) -> String {
        let mut conditions = Vec::new();
        let pairs: Vec<(&Column, &Column)> = outer
            .iter()
            .flat_map(|outer| inner.iter().map(move |inner| (outer, inner)))
            .filter(|(outer, inner)| outer.kind == inner.kind && outer.kind != Kind::Approximate)
            .collect();
        if let Some((outer, inner)) = pairs.choose(self.random)
            && self.random.random_bool(0.7)
        {
            let operator = if self.random.random_bool(0.8) { "=" } else { comparison(self.random) };
            conditions.push(format!("{} {operator} {}", inner.name, outer.name));
        }
        if self.chance(0.3) {
            conditions.push(predicate(self.random, inner, 1));
        }
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
    }

    /// A subquery as a value.
    fn subquery_value(&mut self, scope: &[Column], depth: u32) -> (String, Kind) {
        let (inner, columns, _) = self.source(depth.saturating_sub(1), 1);
        let alias = self.alias("s");
        let inner_scope = scope_of(&columns, &alias);
        let filter = self.inner_filter(scope, &inner_scope);
        let usable: Vec<Column> = plain(&inner_scope);
        if self.chance(0.15) {
            return (format!("EXISTS (SELECT 1 FROM {inner} AS {alias}{filter})"), Kind::Bool);
        }
        let (value, kind) = aggregate(self.random, &usable);
        (format!("(SELECT {value} FROM {inner} AS {alias}{filter})"), kind)
    }

    fn projection(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let from = self.filtered(depth);
        let distinct = if self.chance(0.3) { "DISTINCT " } else { "" };
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for index in 0..self.random.random_range(1..=4) {
            let (value, kind) = if self.chance(0.12) {
                self.subquery_value(&from.scope, depth)
            } else {
                let kind = from.scope.choose(self.random).expect("a relation has columns").kind;
                let value = scalar(self.random, &from.scope, kind, 2);
                if distinct.is_empty() { (value, kind) } else { shown(kind, value) }
            };
            items.push(format!("{value} AS c{index}"));
            columns.push(Column { name: format!("c{index}"), kind });
        }
        (format!("SELECT {distinct}{} FROM {}", items.join(", "), from.text), columns, from.size)
    }

    fn grouping(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let from = self.filtered(depth);
        let usable = computable(&from.scope);
        let keys = if usable.is_empty() { 0 } else { self.random.random_range(0..=2) };
        let sets = keys == 2 && self.chance(0.25);
        let (mut items, mut columns, mut group) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..keys {
            let kind = usable.choose(self.random).expect("not empty").kind;
            let depth = u32::from(!sets && self.chance(0.3));
            let key = scalar(self.random, &usable, kind, depth);
            // The sets of a key twice are those of the key.
            if sets && group.contains(&key) {
                continue;
            }
            let (value, kind) = shown(kind, key.clone());
            items.push(format!("{value} AS c{index}"));
            // A constant is written by its place, or it would be one itself.
            group.push(if value == key && !sets { (index + 1).to_string() } else { key });
            columns.push(Column { name: format!("c{index}"), kind });
        }
        let (keys, sets) = (group.len(), sets && group.len() == 2);
        for index in keys..keys + self.random.random_range(1..=3) {
            let (aggregate, kind) = aggregate(self.random, &usable);
            items.push(format!("{aggregate} AS c{index}"));
            columns.push(Column { name: format!("c{index}"), kind });
        }
        let group = match sets {
            true => self.grouping_sets(&group),
            false if keys == 0 => String::new(),
            false => format!(" GROUP BY {}", group.join(", ")),
        };
        let having = match self.random.random_range(0..12) {
            0 => " HAVING count(*) > 1".to_owned(),
            1 => format!(" HAVING count(*) > {}", self.count_of_others(depth)),
            _ => String::new(),
        };
        (format!("SELECT {} FROM {}{group}{having}", items.join(", "), from.text), columns, 1)
    }

    fn grouping_sets(&mut self, keys: &[String]) -> String {
        let (one, other) = (&keys[0], &keys[1]);
        match self.random.random_range(0..3) {
            0 => format!(" GROUP BY ROLLUP ({one}, {other})"),
            1 => format!(" GROUP BY CUBE ({one}, {other})"),
            _ => format!(" GROUP BY GROUPING SETS (({one}), ({one}, {other}), ())"),
        }
    }

    fn count_of_others(&mut self, depth: u32) -> String {
        let (inner, columns, _) = self.source(depth.saturating_sub(1), 1);
        let alias = self.alias("s");
        let filter = predicate(self.random, &scope_of(&columns, &alias), 1);
        format!("(SELECT count(*) FROM {inner} AS {alias} WHERE {filter})")
    }

    fn set_operation(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let (one, other) = (self.filtered(depth), self.filtered(depth.saturating_sub(1)));
        let operator = ["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"];
        let operator = *operator.choose(self.random).expect("some");
        let kinds: Vec<Kind> = computable(&one.scope).iter().map(|column| column.kind).collect();
        let (mut left, mut right, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.random.random_range(1..=3) {
            let kind = kinds.choose(self.random).copied().unwrap_or(Kind::Int);
            let (value, shown_kind) = shown(kind, scalar(self.random, &one.scope, kind, 1));
            left.push(format!("{value} AS c{index}"));
            right.push(shown(kind, scalar(self.random, &other.scope, kind, 1)).0);
            columns.push(Column { name: format!("c{index}"), kind: shown_kind });
        }
        let (left, right) = (left.join(", "), right.join(", "));
        let sql = format!("SELECT {left} FROM {} {operator} SELECT {right} FROM {}", one.text, other.text);
        (sql, columns, one.size.max(other.size))
    }

    /// The columns of a scope as a select list in which equal values are shown alike.
    fn list(&mut self, scope: &[Column], up_to: usize) -> (Vec<String>, Vec<Column>) {
        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for (index, column) in scope.iter().take(up_to).enumerate() {
            let (value, kind) = shown(column.kind, column.name.clone());
            items.push(format!("{value} AS c{index}"));
            columns.push(Column { name: format!("c{index}"), kind });
        }
        (items, columns)
    }

    /// An order by all columns, or by some; then what it says of ties is open.
    fn order(&mut self, columns: &[Column], all: bool) -> String {
        let mut keys: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        if !all {
            keys.truncate(self.random.random_range(1..=keys.len()));
        }
        let directions = ["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"];
        for key in &mut keys {
            key.push_str(directions.choose(self.random).expect("some"));
        }
        keys.join(", ")
    }

    /// Some columns of plain kinds that a query can show and order by; `None` if there are none.
    fn narrow(&mut self, depth: u32) -> Option<(String, Vec<Column>, u32)> {
        let from = self.filtered(depth);
        let mut usable = computable(&from.scope);
        while usable.len() > 3 {
            usable.remove(self.random.random_range(0..usable.len()));
        }
        let alias = self.alias("n");
        let items: Vec<String> =
            usable.iter().enumerate().map(|(index, column)| format!("{} AS y{index}", column.name)).collect();
        let columns = usable.iter().enumerate();
        let columns: Vec<Column> =
            columns.map(|(index, column)| Column { name: format!("{alias}.y{index}"), kind: column.kind }).collect();
        let text = format!("(SELECT {} FROM {}) AS {alias}", items.join(", "), from.text);
        (!columns.is_empty()).then_some((text, columns, from.size))
    }

    fn windows(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let Some((from, scope, size)) = self.narrow(depth) else { return self.projection(depth) };
        let (mut items, mut columns) = self.list(&scope, scope.len());
        for _ in 0..self.random.random_range(1..=2) {
            let (call, kind) = self.window_call(&scope);
            let name = format!("c{}", items.len());
            items.push(format!("{call} AS {name}"));
            columns.push(Column { name, kind });
        }
        (format!("SELECT {} FROM {from}", items.join(", ")), columns, size)
    }

    fn window_call(&mut self, scope: &[Column]) -> (String, Kind) {
        let column = scope.choose(self.random).expect("not empty").clone();
        let partition = match self.random.random_bool(0.75) {
            true => format!("PARTITION BY {} ", scope.choose(self.random).expect("not empty").name),
            false => String::new(),
        };
        let name = &column.name;
        let ranks = ["rank()", "dense_rank()"].choose(self.random).expect("some");
        let n = self.random.random_range(1..=3);
        // Whether the function sees the order of rows that are equal in the order.
        let (call, kind, sees_ties, framed) = match self.random.random_range(0..12) {
            0 | 1 => ("row_number()".to_owned(), Kind::Big, true, false),
            2 => ((*ranks).to_owned(), Kind::Big, false, false),
            3 => ("percent_rank()".to_owned(), Kind::Approximate, false, false),
            4 => (format!("ntile({n})"), Kind::Int, true, false),
            5 => (format!("lag({name}, {n})"), column.kind, true, false),
            6 => (format!("lead({name}, {n})"), column.kind, true, false),
            7 => (format!("first_value({name})"), column.kind, true, true),
            8 => (format!("last_value({name})"), column.kind, true, true),
            9 => (format!("nth_value({name}, {n})"), column.kind, true, true),
            _ => {
                let (call, kind) = match column.kind {
                    Kind::Int => (format!("sum({name})"), Kind::Big),
                    Kind::Big | Kind::Num => (format!("sum({name})"), Kind::Num),
                    Kind::Text => (format!("max({name})"), Kind::Text),
                    Kind::Date => (format!("min({name})"), Kind::Date),
                    _ => (format!("count({name})"), Kind::Big),
                };
                (call, kind, true, true)
            }
        };
        let all = self.chance(0.8);
        let order = self.order(scope, all);
        let frame = if framed { self.frame() } else { String::new() };
        // Without the last column rows may tie; the answer is ours to choose then.
        self.open |= !all && sees_ties;
        shown(kind, format!("{call} OVER ({partition}ORDER BY {order}{frame})"))
    }

    fn frame(&mut self) -> String {
        let start = *["UNBOUNDED PRECEDING", "2 PRECEDING", "CURRENT ROW"].choose(self.random).expect("some");
        let end = *["CURRENT ROW", "1 FOLLOWING", "UNBOUNDED FOLLOWING"].choose(self.random).expect("some");
        match self.random.random_range(0..4) {
            0 => format!(" ROWS BETWEEN {start} AND {end}"),
            1 => format!(" GROUPS BETWEEN {start} AND {end}"),
            2 => " RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".to_owned(),
            _ => String::new(),
        }
    }

    /// ORDER BY with LIMIT, FETCH WITH TIES, or DISTINCT ON.
    fn first_rows(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let Some((from, scope, size)) = self.narrow(depth) else { return self.projection(depth) };
        let (items, columns) = self.list(&scope, scope.len());
        let all = self.chance(0.8);
        let mut order = self.order(&scope, all);
        let n = self.random.random_range(0..=4);
        let offset = match self.random.random_range(0..3) {
            0 => format!(" OFFSET {}", self.random.random_range(0..4)),
            _ => String::new(),
        };
        let (distinct, cut) = match self.random.random_range(0..6) {
            0 | 1 => (String::new(), format!("{offset} FETCH FIRST {n} ROWS WITH TIES")),
            2 | 3 => {
                let key = scope[0].name.clone();
                let rest = &scope[1..];
                let more = if rest.is_empty() { String::new() } else { format!(", {}", self.order(rest, all)) };
                order = format!("{key}{more}");
                (format!("DISTINCT ON ({key}) "), String::new())
            }
            _ => (String::new(), format!(" LIMIT {n}{offset}")),
        };
        self.open |= !all && (!cut.contains("TIES") || !offset.is_empty());
        let list = items.join(", ");
        (format!("SELECT {distinct}{list} FROM {from} ORDER BY {order}{cut}"), columns, size.min(2))
    }

    /// The first rows of each key by a bound on their number.
    fn ranked(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let Some((from, scope, size)) = self.narrow(depth) else { return self.projection(depth) };
        let (items, mut columns) = self.list(&scope, scope.len());
        let function = *["row_number()", "rank()", "dense_rank()"].choose(self.random).expect("some");
        let all = self.chance(0.8);
        let order = self.order(&scope, all);
        self.open |= !all && function == "row_number()";
        let partition = match self.random.random_bool(0.7) {
            true => format!("PARTITION BY {} ", scope[0].name),
            false => String::new(),
        };
        let alias = self.alias("r");
        let bound = ["<= 2", "= 1", "< 4", "BETWEEN 2 AND 3"].choose(self.random).expect("some");
        let list = items.join(", ");
        let number = format!("c{}", columns.len());
        let sql = format!(
            "SELECT * FROM (SELECT {list}, {function} OVER ({partition}ORDER BY {order}) AS {number} FROM {from}) AS \
             {alias} WHERE {alias}.{number} {bound}"
        );
        columns.push(Column { name: number, kind: Kind::Big });
        (sql, columns, size)
    }

    /// A query that reads one of its own names, perhaps twice.
    fn with(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let (inner, columns, size) = self.select(depth.saturating_sub(1));
        if self.named == 0 {
            self.parts.push(inner.clone());
        }
        let name = self.alias("w");
        let relation = Relation { name: name.clone(), columns, keyed: false, size: size.min(2), open: false };
        self.named += 1;
        self.relations.push(relation.clone());
        self.relations.push(relation);
        let (body, columns, size) = if self.chance(0.5) { self.projection(1) } else { self.grouping(1) };
        self.relations.truncate(self.relations.len() - 2);
        self.named -= 1;
        (format!("WITH {name} AS ({inner}) {body}"), columns, size)
    }

    /// What can be reached from some numbers in three moves.
    fn recursive(&mut self) -> (String, Vec<Column>, u32) {
        let usable: Vec<Relation> = self
            .relations
            .iter()
            .filter(|relation| relation.size == 1 && !columns_of(&relation.columns, Kind::Int).is_empty())
            .cloned()
            .collect();
        let Some(table) = usable.choose(self.random).cloned() else { return self.grouping(1) };
        self.open |= table.open;
        let ints = columns_of(&table.columns, Kind::Int);
        let (from, to) = (ints[0].name.clone(), ints[ints.len() - 1].name.clone());
        let start = predicate(self.random, &table.columns, 1);
        let name = self.alias("w");
        let next = if from == to { format!("b.{to} + 1") } else { format!("b.{to}") };
        let steps = format!(
            "WITH RECURSIVE {name} (n, d) AS (SELECT {from}, 0 FROM {table} WHERE {start} UNION SELECT {next}, \
             {name}.d + 1 FROM {name} JOIN {table} AS b ON b.{from} = {name}.n WHERE {name}.d < 3)",
            table = table.name
        );
        let column = |name: &str, kind| Column { name: name.to_owned(), kind };
        match self.chance(0.5) {
            true => {
                let sql = format!("{steps} SELECT n AS c0, d AS c1 FROM {name}");
                (sql, vec![column("c0", Kind::Int), column("c1", Kind::Int)], 1)
            }
            false => {
                let sql = format!("{steps} SELECT n AS c0, count(*) AS c1, min(d) AS c2 FROM {name} GROUP BY n");
                let columns = vec![column("c0", Kind::Int), column("c1", Kind::Big), column("c2", Kind::Int)];
                (sql, columns, 1)
            }
        }
    }

    fn unnested(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let (inner, columns, size) = self.source(depth, 2);
        let alias = self.alias("a");
        let scope = scope_of(&columns, &alias);
        let usable = plain(&scope);
        let function = self.alias("f");
        let (call, kind) = match usable.choose(self.random).map(|column| column.kind) {
            Some(Kind::Int) if self.chance(0.5) => {
                let column = columns_of(&usable, Kind::Int)[0].name.clone();
                (format!("generate_series(1, {column})"), Kind::Int)
            }
            Some(kind) => {
                let (one, other) = (scalar(self.random, &usable, kind, 1), scalar(self.random, &usable, kind, 1));
                (format!("unnest(ARRAY[{one}, {other}])"), kind)
            }
            None => ("generate_series(1, 2)".to_owned(), Kind::Int),
        };
        let (ordinality, place) = match self.chance(0.3) {
            true => (" WITH ORDINALITY", ", p"),
            false => ("", ""),
        };
        let (mut items, mut columns) = self.list(&scope, 2);
        items.push(format!("{function}.v AS c{}", items.len()));
        columns.push(Column { name: format!("c{}", columns.len()), kind });
        if !place.is_empty() {
            items.push(format!("{function}.p AS c{}", items.len()));
            columns.push(Column { name: format!("c{}", columns.len()), kind: Kind::Big });
        }
        let from = format!("{inner} AS {alias}, {call}{ordinality} AS {function} (v{place})");
        (format!("SELECT {} FROM {from}", items.join(", ")), columns, size)
    }

    fn lateral(&mut self, depth: u32) -> (String, Vec<Column>, u32) {
        let (outer, columns, size) = self.source(depth, 2);
        let alias = self.alias("a");
        let scope = scope_of(&columns, &alias);
        let (inner, inner_columns, _) = self.source(depth.saturating_sub(1), 1);
        let inner_alias = self.alias("s");
        let inner_scope = scope_of(&inner_columns, &inner_alias);
        let filter = self.inner_filter(&scope, &inner_scope);
        let usable = plain(&inner_scope);
        let (value, kind, tail) = match usable.choose(self.random).cloned() {
            Some(column) if self.chance(0.5) => {
                let order = self.order(&[Column { name: "1".to_owned(), kind: column.kind }], true);
                (column.name, column.kind, format!(" ORDER BY {order} LIMIT {}", self.random.random_range(1..=3)))
            }
            _ => {
                let (value, kind) = aggregate(self.random, &usable);
                (value, kind, String::new())
            }
        };
        let lateral = self.alias("l");
        let (mut items, mut columns) = self.list(&scope, 2);
        items.push(format!("{lateral}.v AS c{}", items.len()));
        columns.push(Column { name: format!("c{}", columns.len()), kind });
        let join = *["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"].choose(self.random).expect("some");
        let on = if join.starts_with("LEFT") { " ON true" } else { "" };
        let subquery = format!("(SELECT {value} AS v FROM {inner} AS {inner_alias}{filter}{tail}) AS {lateral}");
        (format!("SELECT {} FROM {outer} AS {alias} {join} {subquery}{on}", items.join(", ")), columns, size)
    }

    /// A division that some rows do not survive: the view is in error as long as they are there.
    fn may_fail(&mut self) -> (String, Vec<Column>, u32) {
        let usable = |relation: &&Relation| !columns_of(&relation.columns, Kind::Int).is_empty();
        let Some(table) = self.relations.iter().find(usable).cloned() else { return self.projection(1) };
        let columns = columns_of(&table.columns, Kind::Int);
        let column = &columns.choose(self.random).expect("not empty").name;
        let sql = format!("SELECT {column} AS c0, 100 / {column} AS c1 FROM {}", table.name);
        let columns = ["c0", "c1"].map(|name| Column { name: name.to_owned(), kind: Kind::Int });
        (sql, columns.to_vec(), 1)
    }
}

/// Columns that can be computed with.
fn computable(scope: &[Column]) -> Vec<Column> {
    scope.iter().filter(|column| column.kind != Kind::Approximate).cloned().collect()
}

/// Columns whose equal values are shown alike.
fn plain(scope: &[Column]) -> Vec<Column> {
    scope.iter().filter(|column| column.kind.is_plain()).cloned().collect()
}
