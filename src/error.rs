//! What a user is told when something cannot be done: one sentence, its SQLSTATE, a position, a hint.

use std::fmt;

/// A five-character SQLSTATE (PostgreSQL 15, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SqlState(pub [u8; 5]);

macro_rules! sql_states {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState { $($(#[$doc])* pub const $name: SqlState = SqlState(*$code);)* }
    };
}

sql_states! {
    CONNECTION_FAILURE = b"08006";
    PROTOCOL_VIOLATION = b"08P01";
    FEATURE_NOT_SUPPORTED = b"0A000";
    CARDINALITY_VIOLATION = b"21000";
    STRING_TOO_LONG = b"22001";
    NUMERIC_OUT_OF_RANGE = b"22003";
    INVALID_DATETIME_FORMAT = b"22007";
    DATETIME_OVERFLOW = b"22008";
    DIVISION_BY_ZERO = b"22012";
    INVALID_ARGUMENT_FOR_LOG = b"2201E";
    INVALID_ARGUMENT_FOR_POWER = b"2201F";
    INVALID_PARAMETER_VALUE = b"22023";
    INVALID_TEXT = b"22P02";
    INVALID_BINARY = b"22P03";
    BAD_COPY_FORMAT = b"22P04";
    NOT_NULL_VIOLATION = b"23502";
    UNIQUE_VIOLATION = b"23505";
    CHECK_VIOLATION = b"23514";
    INVALID_CURSOR_STATE = b"24000";
    ACTIVE_TRANSACTION = b"25001";
    READ_ONLY_TRANSACTION = b"25006";
    NO_ACTIVE_TRANSACTION = b"25P01";
    TRANSACTION_ABORTED = b"25P02";
    INVALID_STATEMENT_NAME = b"26000";
    INVALID_PASSWORD = b"28P01";
    DEPENDENT_OBJECTS = b"2BP01";
    INVALID_CURSOR_NAME = b"34000";
    INVALID_DATABASE = b"3D000";
    INVALID_SCHEMA = b"3F000";
    SERIALIZATION_FAILURE = b"40001";
    INSUFFICIENT_PRIVILEGE = b"42501";
    SYNTAX_ERROR = b"42601";
    DUPLICATE_COLUMN = b"42701";
    AMBIGUOUS_COLUMN = b"42702";
    UNDEFINED_COLUMN = b"42703";
    UNDEFINED_OBJECT = b"42704";
    DUPLICATE_OBJECT = b"42710";
    GROUPING_ERROR = b"42803";
    DATATYPE_MISMATCH = b"42804";
    WRONG_OBJECT_TYPE = b"42809";
    CANNOT_COERCE = b"42846";
    UNDEFINED_FUNCTION = b"42883";
    UNDEFINED_TABLE = b"42P01";
    UNDEFINED_PARAMETER = b"42P02";
    DUPLICATE_CURSOR = b"42P03";
    DUPLICATE_PREPARED_STATEMENT = b"42P05";
    DUPLICATE_SCHEMA = b"42P06";
    DUPLICATE_TABLE = b"42P07";
    INVALID_COLUMN_REFERENCE = b"42P10";
    INVALID_TABLE_DEFINITION = b"42P16";
    INDETERMINATE_TYPE = b"42P18";
    DISK_FULL = b"53100";
    OUT_OF_MEMORY = b"53200";
    TOO_MANY_CONNECTIONS = b"53300";
    CONFIGURATION_LIMIT = b"53400";
    OBJECT_NOT_IN_STATE = b"55000";
    OBJECT_IN_USE = b"55006";
    QUERY_CANCELED = b"57014";
    ADMIN_SHUTDOWN = b"57P01";
    CANNOT_CONNECT_NOW = b"57P03";
    IO_ERROR = b"58030";
    UNDEFINED_FILE = b"58P01";
    DATA_CORRUPTED = b"XX001";
    /// Only for bugs: no input of a user may lead here.
    INTERNAL_ERROR = b"XX000";
}

impl SqlState {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal in the user's words. PostgreSQL's style: lower case, no full stop, detail and hint apart.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    pub code: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in the statement text, in characters, from 1.
    pub position: Option<usize>,
}

/// The result of everything that a user's input can make fail.
pub type SqlResult<T> = Result<T, SqlError>;

impl SqlError {
    pub fn new(code: SqlState, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, position: None }
    }
    /// For what the engine does not do; `hint` says what to write instead.
    pub fn unsupported(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, message).hint(hint)
    }
    /// For broken invariants that are reported and not asserted. A user who sees this has found a bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }
}
