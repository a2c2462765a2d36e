//! The parameters of a Bind → arrays of one row in the types that the statement declares.

use arrow::array::ArrayRef;
use bytes::Bytes;

use super::encode::Format;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{ColumnBuilder, TextStyle, utf8};
use crate::zset::PgType;

/// Decodes all parameters of a Bind.
pub fn parameters(
    values: &[Option<Bytes>],
    codes: &[i16],
    types: &[PgType],
    style: TextStyle,
) -> SqlResult<Vec<ArrayRef>> {
    if values.len() != types.len() {
        return Err(SqlError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                values.len(),
                types.len()
            ),
        ));
    }
    let format = |index: usize| match codes {
        [] => Ok(Format::Text),
        [one] => Format::from_code(*one),
        codes if codes.len() == values.len() => Format::from_code(codes[index]),
        codes => Err(SqlError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("bind message has {} parameter formats but {} parameters", codes.len(), values.len()),
        )),
    };
    let each = values.iter().zip(types).enumerate();
    each.map(|(index, (value, pg_type))| parameter(value.as_deref(), format(index)?, pg_type, style)).collect()
}

fn parameter(value: Option<&[u8]>, format: Format, pg_type: &PgType, style: TextStyle) -> SqlResult<ArrayRef> {
    let mut builder = ColumnBuilder::new(pg_type, style, 1);
    match (value, format) {
        (None, _) => builder.append_null(),
        (Some(bytes), Format::Text) => builder.append_text(utf8(bytes)?)?,
        (Some(bytes), Format::Binary) => builder.append_binary(bytes)?,
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn parameters_come_as_text_or_binary() {
        let values = [Some(Bytes::from_static(b"41")), Some(Bytes::from_static(&[0, 0, 0, 42])), None];
        let types = [PgType::Int4, PgType::Int4, PgType::Text];
        let arrays = parameters(&values, &[0, 1, 0], &types, TextStyle::default()).expect("valid values");
        assert_eq!(arrays[0].as_primitive::<Int32Type>().value(0), 41);
        assert_eq!(arrays[1].as_primitive::<Int32Type>().value(0), 42);
        assert!(arrays[2].is_null(0));
        let error = parameters(&values, &[], &types[..1], TextStyle::default()).expect_err("too many");
        assert_eq!(error.code, SqlState::PROTOCOL_VIOLATION);
        assert!(parameters(&values, &[0, 0], &types, TextStyle::default()).is_err());
    }
}
