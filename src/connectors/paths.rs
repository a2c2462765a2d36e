//! Which files connectors may touch: only those below the allowed paths, whatever `..` and symbolic links say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Component, Path, PathBuf};

use crate::error::{SqlError, SqlResult, SqlState};

/// The directories below which user files may be read and written. Everything else is 42501.
#[derive(Debug, Clone, Default)]
pub struct AllowedPaths {
    roots: Vec<PathBuf>,
}

impl AllowedPaths {
    /// `/` allows everything, an empty list nothing.
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        AllowedPaths { roots: roots.into_iter().collect() }
    }

    /// The true path of a file or directory that exists and is allowed.
    pub fn existing(&self, path: &Path) -> SqlResult<PathBuf> {
        let (ancestor, is_whole) = nearest_existing(path);
        self.check(path, &ancestor)?;
        if is_whole { Ok(ancestor) } else { Err(missing(path)) }
    }

    /// The true path of a file that may or may not exist yet, in a directory that exists and is allowed.
    pub fn writable(&self, path: &Path) -> SqlResult<PathBuf> {
        let Some(name) = path.file_name() else {
            let message = format!("\"{}\" does not name a file", path.display());
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = self.existing(parent)?;
        if !parent.is_dir() {
            return Err(io_error(&io::Error::from(io::ErrorKind::NotADirectory), "write", path));
        }
        Ok(parent.join(name))
    }

    /// Opens a regular file for reading.
    pub fn open(&self, path: &Path) -> SqlResult<File> {
        let path = self.existing(path)?;
        // A pipe would block and a device may never end.
        if !path.is_file() {
            let message = format!("\"{}\" is not a regular file", path.display());
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        let file = File::open(&path).map_err(|error| io_error(&error, "read", &path))?;
        self.check_open(&path, &file)?;
        Ok(file)
    }

    /// The true paths of all regular files that match a pattern (`*`, `?`, `[…]`, `**`), sorted. A pattern that names
    /// a directory matches the files in it.
    pub fn matching(&self, pattern: &str) -> SqlResult<Vec<PathBuf>> {
        // A file whose name looks like a pattern is meant itself.
        let fixed = if Path::new(pattern).is_file() { PathBuf::from(pattern) } else { fixed_part(pattern) };
        let base = self.existing(&fixed)?;
        if base.is_file() {
            return Ok(vec![base]);
        }
        let is_directory = fixed == Path::new(pattern);
        let pattern = if is_directory { format!("{pattern}/*") } else { pattern.to_string() };
        let found = glob::glob(&pattern).map_err(|error| {
            let message = format!("path pattern \"{pattern}\" is malformed at character {}: {}", error.pos, error.msg);
            SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        })?;
        // Directories that cannot be read match nothing, as in a shell.
        let mut paths = Vec::new();
        for path in found.filter_map(Result::ok).filter(|path| path.is_file()) {
            paths.push(self.existing(&path)?);
        }
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    fn check(&self, asked: &Path, real: &Path) -> SqlResult<()> {
        let roots = self.roots.iter().filter_map(|root| fs::canonicalize(root).ok());
        if roots.into_iter().any(|root| real.starts_with(root)) { Ok(()) } else { Err(self.denied(asked)) }
    }

    /// The opened file itself, in case somebody has put a link in its place since its path was checked.
    fn check_open(&self, path: &Path, file: &File) -> SqlResult<()> {
        use std::os::fd::AsRawFd;
        match fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) {
            Ok(real) => self.check(path, &real),
            Err(_) => Ok(()),
        }
    }

    fn denied(&self, path: &Path) -> SqlError {
        let message = format!("access to \"{}\" is not allowed", path.display());
        let roots: Vec<String> = self.roots.iter().map(|root| root.display().to_string()).collect();
        let hint = match roots.as_slice() {
            [] => "no path is allowed; the setting allowed_paths lists directories that are".to_string(),
            _ => format!("the setting allowed_paths allows what lies below {}", roots.join(", ")),
        };
        SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message).hint(hint)
    }
}

/// The true path, or that of the nearest directory above it that exists; and whether it is the whole path.
fn nearest_existing(path: &Path) -> (PathBuf, bool) {
    let mut at = path.to_path_buf();
    let mut is_whole = true;
    loop {
        if let Ok(real) = fs::canonicalize(if at.as_os_str().is_empty() { Path::new(".") } else { &at }) {
            return (real, is_whole);
        }
        is_whole = false;
        if !at.pop() {
            return (PathBuf::from("/"), false);
        }
    }
}

/// The part of a pattern before the first component with a wildcard.
fn fixed_part(pattern: &str) -> PathBuf {
    let is_fixed = |part: &Component| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    Path::new(pattern).components().take_while(is_fixed).collect()
}

/// 58P01 for a path that leads nowhere.
pub fn missing(path: &Path) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_FILE, format!("file \"{}\" does not exist", path.display()))
}

/// An error of the operating system in a user's words.
pub fn io_error(error: &io::Error, what: &str, path: &Path) -> SqlError {
    let (code, reason) = match error.kind() {
        io::ErrorKind::NotFound => (SqlState::UNDEFINED_FILE, "no such file or directory".to_string()),
        io::ErrorKind::PermissionDenied => (SqlState::INSUFFICIENT_PRIVILEGE, "permission denied".to_string()),
        io::ErrorKind::StorageFull => (SqlState::DISK_FULL, "no space left on the file system".to_string()),
        io::ErrorKind::QuotaExceeded => (SqlState::DISK_FULL, "the disk quota is used up".to_string()),
        _ => {
            let text = error.to_string();
            (SqlState::IO_ERROR, text.split(" (os error").next().unwrap_or(&text).to_lowercase())
        }
    };
    let error = SqlError::new(code, format!("cannot {what} \"{}\": {reason}", path.display()));
    if code == SqlState::DISK_FULL { error.hint("free space on that file system") } else { error }
}

/// A file that is there wholly, under its name, or not at all: written beside its place, then renamed.
pub struct OutputFile {
    path: PathBuf,
    unfinished: PathBuf,
    writer: Option<BufWriter<File>>,
    bytes: u64,
}

impl OutputFile {
    pub fn create(path: &Path, allowed: &AllowedPaths) -> SqlResult<OutputFile> {
        let path = allowed.writable(path)?;
        let name = path.file_name().expect("a writable path has a name").to_string_lossy().into_owned();
        let unfinished = path.with_file_name(format!(".{name}.{}.unfinished", std::process::id()));
        let open = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished);
        let file = open.map_err(|error| io_error(&error, "write", &path))?;
        Ok(OutputFile { path, unfinished, writer: Some(BufWriter::with_capacity(1 << 18, file)), bytes: 0 })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the name that the file will have; the directory stays the same.
    pub fn set_path(&mut self, path: &Path) {
        if let Some(name) = path.file_name() {
            self.path.set_file_name(name);
        }
    }

    /// Makes the file durable and gives it its name, in place of a file that had it.
    pub fn finish(mut self) -> SqlResult<()> {
        let writer = self.writer.take().expect("a file is finished once");
        let finish = || {
            let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            fs::rename(&self.unfinished, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        let finished = finish().map_err(|error| io_error(&error, "write", &self.path));
        if finished.is_err() {
            drop(fs::remove_file(&self.unfinished));
        }
        finished
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.as_mut().expect("a finished file is gone").write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().expect("a finished file is gone").flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // Nobody can be told; a file left behind is hidden and overwritten by the next attempt.
            drop(fs::remove_file(&self.unfinished));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with `in/a.csv`, `in/b.csv`, `out/secret`, and links from inside to outside.
    fn tree() -> (tempfile::TempDir, AllowedPaths) {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("in/deep")).expect("makes");
        fs::create_dir_all(at("out")).expect("makes");
        for file in ["in/a.csv", "in/b.csv", "in/deep/c.csv", "out/secret"] {
            fs::write(at(file), "x").expect("writes");
        }
        std::os::unix::fs::symlink(at("out/secret"), at("in/link")).expect("links");
        std::os::unix::fs::symlink(at("out"), at("in/dir")).expect("links");
        let allowed = AllowedPaths::new([at("in")]);
        (dir, allowed)
    }

    fn code<T>(result: SqlResult<T>) -> String {
        result.err().map_or("ok".to_string(), |error| error.code.as_str().to_string())
    }

    #[test]
    fn nothing_outside_is_reached_by_dots_links_or_names() {
        let (dir, allowed) = tree();
        let at = |path: &str| dir.path().join(path);
        assert_eq!(code(allowed.open(&at("in/a.csv"))), "ok");
        assert_eq!(code(allowed.open(&at("in/deep/../a.csv"))), "ok");
        for path in ["in/link", "in/dir/secret", "in/../out/secret", "out/secret", "in/../out/nothing", "in/dir/new"] {
            assert_eq!(code(allowed.open(&at(path))), "42501", "{path}");
            assert_eq!(code(allowed.existing(&at(path))), "42501", "{path}");
        }
        assert_eq!(code(allowed.open(Path::new("/proc/self/environ"))), "42501");
        assert_eq!(code(allowed.open(&at("in/nothing"))), "58P01");
        assert_eq!(code(allowed.open(&at("in/deep"))), "42809");
        assert_eq!(code(allowed.writable(&at("in/new"))), "ok");
        assert_eq!(code(allowed.writable(&at("in/dir/new"))), "42501");
        assert_eq!(code(allowed.writable(&at("in/none/new"))), "58P01");
        assert_eq!(code(AllowedPaths::default().open(&at("in/a.csv"))), "42501");
    }

    #[test]
    fn patterns_find_regular_files_in_order() {
        let (dir, allowed) = tree();
        let names = |pattern: &str| {
            let found = allowed.matching(&dir.path().join(pattern).to_string_lossy());
            let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
            found.map(|paths| paths.iter().map(name).collect::<Vec<_>>())
        };
        assert_eq!(names("in/*.csv").expect("allowed"), ["a.csv", "b.csv"]);
        assert_eq!(names("in/**/*.csv").expect("allowed"), ["a.csv", "b.csv", "c.csv"]);
        assert_eq!(names("in/deep").expect("allowed"), ["c.csv"]);
        assert_eq!(names("in/a.csv").expect("allowed"), ["a.csv"]);
        assert_eq!(names("in/*.json").expect("allowed"), Vec::<String>::new());
        assert_eq!(code(names("in/*")), "42501", "a link leads outside");
        assert_eq!(code(names("out/*")), "42501");
        assert_eq!(code(names("in/none.csv")), "58P01");
        assert_eq!(code(names("in/a[.csv")), "22023");
    }

    #[test]
    fn an_output_file_appears_only_when_it_is_finished() {
        let (dir, allowed) = tree();
        let path = dir.path().join("in/new.csv");
        let mut file = OutputFile::create(&path, &allowed).expect("creates");
        file.write_all(b"1\n").expect("writes");
        assert!(!path.exists());
        drop(file);
        assert_eq!(fs::read_dir(dir.path().join("in")).expect("lists").count(), 5, "the unfinished file is gone");
        let mut file = OutputFile::create(&path, &allowed).expect("creates");
        file.write_all(b"2\n").expect("writes");
        file.finish().expect("finishes");
        assert_eq!(fs::read(&path).expect("reads"), b"2\n");
    }
}
