//! Source files and places in them. A span is a byte range in one file; lines and columns are
//! computed only when something is shown.

/// The number of a file in its [`Files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A byte range of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub file: FileId,
    pub start: u32,
    pub end: u32,
}

/// A value and where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// One input file.
#[derive(Debug, Clone)]
pub struct File {
    /// As the user would write it, e.g. `pipelines/booking.yaml`.
    pub path: String,
    pub text: String,
}

/// All input files, in the order of their paths.
#[derive(Debug, Clone, Default)]
pub struct Files {
    files: Vec<File>,
    /// Of each file, where its lines begin: positions are asked for every type and step.
    lines: Vec<Vec<usize>>,
}

impl Files {
    pub fn new(mut files: Vec<File>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let starts = |file: &File| {
            std::iter::once(0).chain(file.text.match_indices('\n').map(|(at, _)| at + 1)).collect()
        };
        let lines = files.iter().map(starts).collect();
        Self { files, lines }
    }

    pub fn iter(&self) -> impl Iterator<Item = (FileId, &File)> {
        (0..).map(FileId).zip(&self.files)
    }

    /// The file of a span of this set.
    pub fn get(&self, id: FileId) -> Option<&File> {
        self.files.get(id.0 as usize)
    }

    /// Line and column of a span's start, both from 1, the column in characters.
    pub fn position(&self, span: Span) -> (usize, usize) {
        let (Some(file), Some(lines)) = (self.get(span.file), self.lines.get(span.file.0 as usize))
        else {
            return (1, 1);
        };
        let mut end = (span.start as usize).min(file.text.len());
        while !file.text.is_char_boundary(end) {
            end -= 1;
        }
        let line = lines.partition_point(|start| *start <= end);
        let line_start = line.checked_sub(1).and_then(|line| lines.get(line)).copied().unwrap_or(0);
        (line.max(1), file.text[line_start..end].chars().count() + 1)
    }
}
