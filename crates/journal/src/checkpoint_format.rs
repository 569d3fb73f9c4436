//! Checkpoints: the whole hosted state as of one journal entry, in one form only.
//!
//! A checkpoint is gzipped lines of JSON: a [`Header`], then every row of every table, in key
//! order, as `["versions",["foo",0],{…}]`. Two replicas that applied the same entries with the
//! same code write the same lines, so it is named after the SHA-256 of its *lines*. (Compressors
//! differ between releases and even between processors; what they compress must not.)

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::str::FromStr;

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use cratehouse_core::checksum::{Checksum, Checksumming};
use cratehouse_storage::format_level::Level;

/// The longest line, in bytes: a row is never larger than the journal entry that made it.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// What a checkpoint is called: `00000000000000000040-<SHA-256 of its lines>`. Ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The last journal entry in it.
    pub seq: u64,
    /// SHA-256 of its lines.
    pub hash: Checksum,
}

/// The text is not the name of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint is called <20 digits>-<64 hexadecimal digits>")]
pub struct NameError;

/// The first line of a checkpoint. Later releases may add fields to it and take none away, so that
/// whatever they write says by itself why it is passed over here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The registry whose journal it is.
    pub registry: String,
    /// The schema of the code that applied the entries: its rows mean something to it alone.
    pub schema: u32,
    /// The number of the last entry in it.
    pub seq: u64,
    /// That entry's hash.
    pub hash: Checksum,
    /// The latest publication so far.
    pub published: Timestamp,
    /// The format level that is enabled.
    #[serde(default)]
    pub level: Level,
    /// How many versions there are, for people.
    pub versions: u64,
    /// How many rows follow.
    pub rows: u64,
}

/// Why a checkpoint cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// It is cut short or changed, or was never one.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Its lines are not those that it is named after.
    #[error("it is damaged: it is not what its name says")]
    Misnamed,
    /// It belongs to another registry.
    #[error("it is of another registry, {0}")]
    Foreign(String),
    /// It was written by code that reads the journal differently.
    #[error(
        "another release wrote it, with the catalog schema {0}, and this one has {1}: what it says is read from the journal instead"
    )]
    Schema(u32, u32),
    /// Behind it stands what this release does not know.
    #[error(
        "format level {0} is enabled in it, and this release knows levels up to {1}: upgrade this replica"
    )]
    Level(Level, Level),
}

impl Header {
    /// Checks that it is of this registry and schema, and of a format level that this release
    /// knows.
    ///
    /// # Errors
    /// [`Unsound::Foreign`], [`Unsound::Schema`] or [`Unsound::Level`].
    pub fn check(&self, registry: &str, schema: u32) -> Result<(), Unsound> {
        match (self.registry == registry, self.schema == schema) {
            (false, _) => Err(Unsound::Foreign(self.registry.clone())),
            (true, false) => Err(Unsound::Schema(self.schema, schema)),
            (true, true) if self.level > Level::KNOWN => {
                Err(Unsound::Level(self.level, Level::KNOWN))
            }
            (true, true) => Ok(()),
        }
    }
}

/// Writes a checkpoint line by line; only its compressed bytes stay in memory.
pub struct Writer {
    out: GzEncoder<Vec<u8>>,
    hash: Checksumming,
    seq: u64,
    rows_left: u64,
    line: Vec<u8>,
}

impl Writer {
    /// Begins one with its header.
    ///
    /// # Errors
    /// None in memory.
    pub fn begin(header: &Header) -> io::Result<Self> {
        // No name and no time in the gzip header. A checkpoint is written far more often than
        // it is read, beside other work: fast, and a few percent larger.
        let out = GzEncoder::new(Vec::new(), Compression::fast());
        let (seq, rows_left) = (header.seq, header.rows);
        let line = serde_json::to_vec(header)?;
        let mut writer = Self { out, hash: Checksumming::default(), seq, rows_left, line };
        writer.end_line()?;
        Ok(writer)
    }

    /// Adds a row. Tables and their keys come in order; `value` is one JSON value.
    ///
    /// # Errors
    /// When a key has no form in JSON, or there are more rows than the header says.
    pub fn row(&mut self, table: &str, key: &impl Serialize, value: &[u8]) -> io::Result<()> {
        self.rows_left = self.rows_left.checked_sub(1).ok_or_else(miscounted)?;
        self.line.push(b'[');
        serde_json::to_writer(&mut self.line, table)?;
        self.line.push(b',');
        serde_json::to_writer(&mut self.line, key)?;
        self.line.push(b',');
        self.line.extend_from_slice(value);
        self.line.push(b']');
        self.end_line()
    }

    /// The whole, and what it is called.
    ///
    /// # Errors
    /// When there are fewer rows than the header says.
    pub fn finish(self) -> io::Result<(Name, Bytes)> {
        if self.rows_left > 0 {
            return Err(miscounted());
        }
        let name = Name { seq: self.seq, hash: self.hash.finish() };
        Ok((name, self.out.finish()?.into()))
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.hash.update(&self.line);
        self.out.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

fn miscounted() -> io::Error {
    io::Error::other("the header of a checkpoint counts its rows wrongly")
}

/// Reads a checkpoint line by line; one line at a time is in memory.
pub struct Reader {
    lines: BufReader<GzDecoder<Cursor<Bytes>>>,
    hash: Checksumming,
    name: Name,
    header: Header,
    rows_left: u64,
    line: Vec<u8>,
}

/// One row of a table.
#[derive(Debug, Deserialize)]
pub struct Row<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] &'a RawValue,
    #[serde(borrow)] &'a RawValue,
);

impl Row<'_> {
    /// The table's name.
    pub fn table(&self) -> &str {
        &self.0
    }

    /// The key.
    ///
    /// # Errors
    /// [`Unsound::Damaged`] when it is not of this form.
    pub fn key<K: DeserializeOwned>(&self) -> Result<K, Unsound> {
        serde_json::from_str(self.1.get()).map_err(damaged)
    }

    /// The value as it is, JSON.
    pub fn value(&self) -> &str {
        self.2.get()
    }

    /// The value of a table that holds numbers.
    ///
    /// # Errors
    /// [`Unsound::Damaged`] when it is none.
    pub fn number<N: DeserializeOwned>(&self) -> Result<N, Unsound> {
        serde_json::from_str(self.2.get()).map_err(damaged)
    }
}

impl Reader {
    /// Reads the header of the checkpoint of this name.
    ///
    /// # Errors
    /// [`Unsound`] when there is none, or it says that it is another one.
    pub fn open(name: Name, bytes: Bytes) -> Result<Self, Unsound> {
        let mut lines = BufReader::new(GzDecoder::new(Cursor::new(bytes)));
        let (mut line, mut hash) = (Vec::new(), Checksumming::default());
        next_line(&mut lines, &mut line, &mut hash)?;
        let header: Header = serde_json::from_slice(&line).map_err(damaged)?;
        if header.seq != name.seq {
            return Err(Unsound::Misnamed);
        }
        let rows_left = header.rows;
        Ok(Self { lines, hash, name, header, rows_left, line })
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next row; `None` at the end. What was read may be believed only after `None`: then
    /// the whole has been compared with the hash in the name.
    ///
    /// # Errors
    /// [`Unsound`], at the latest at the end.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, Unsound> {
        let Some(rows_left) = self.rows_left.checked_sub(1) else {
            return self.check_end().map(|()| None);
        };
        self.rows_left = rows_left;
        next_line(&mut self.lines, &mut self.line, &mut self.hash)?;
        serde_json::from_slice(&self.line).map(Some).map_err(damaged)
    }

    /// Reads to the end, for its verification alone.
    ///
    /// # Errors
    /// [`Unsound`].
    pub fn verify(mut self) -> Result<Header, Unsound> {
        while self.next_row()?.is_some() {}
        Ok(self.header)
    }

    fn check_end(&mut self) -> Result<(), Unsound> {
        // Reads gzip's own checksum, too.
        let ended = self.lines.fill_buf().map_err(damaged)?.is_empty();
        let behind = self.lines.get_ref().get_ref();
        if !ended || behind.position() != behind.get_ref().len() as u64 {
            return Err(Unsound::Damaged("there is more behind its end".to_owned()));
        }
        match self.hash.clone().finish() == self.name.hash {
            true => Ok(()),
            false => Err(Unsound::Misnamed),
        }
    }
}

/// Reads one whole line into `line`.
fn next_line(
    lines: &mut impl BufRead,
    line: &mut Vec<u8>,
    hash: &mut Checksumming,
) -> Result<(), Unsound> {
    line.clear();
    lines.take(MAX_LINE_BYTES).read_until(b'\n', line).map_err(damaged)?;
    if line.last() != Some(&b'\n') {
        return Err(Unsound::Damaged("a line is cut short or too long".to_owned()));
    }
    hash.update(line);
    Ok(())
}

fn damaged(why: impl fmt::Display) -> Unsound {
    Unsound::Damaged(why.to_string())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{}", self.seq, self.hash)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (seq, hash) = text.split_once('-').ok_or(NameError)?;
        let (seq, hash) =
            (seq.parse().map_err(|_| NameError)?, hash.parse().map_err(|_| NameError)?);
        let name = Self { seq, hash };
        if name.to_string() == text { Ok(name) } else { Err(NameError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(rows: u64) -> Header {
        Header {
            registry: "ours".to_owned(),
            schema: 1,
            seq: 40,
            hash: Checksum::of(b"the last entry"),
            published: Timestamp::UNIX_EPOCH,
            level: Level::FIRST,
            versions: 1,
            rows,
        }
    }

    fn checkpoint() -> (Name, Bytes) {
        let mut writer = Writer::begin(&header(2)).unwrap();
        writer.row("crates", &"foo", br#"{"name":"foo"}"#).unwrap();
        writer.row("numbers", &("foo", "1.0.0"), b"7").unwrap();
        writer.finish().unwrap()
    }

    fn verdict(name: Name, bytes: impl Into<Bytes>) -> Result<Header, Unsound> {
        Reader::open(name, bytes.into())?.verify()
    }

    #[test]
    fn a_checkpoint_reads_back_as_it_was_written() {
        let (name, bytes) = checkpoint();
        let mut reader = Reader::open(name, bytes).unwrap();
        assert_eq!(*reader.header(), header(2));
        let row = reader.next_row().unwrap().unwrap();
        assert_eq!((row.table(), row.value()), ("crates", r#"{"name":"foo"}"#));
        assert_eq!(row.key::<String>().unwrap(), "foo");
        let row = reader.next_row().unwrap().unwrap();
        assert_eq!((row.table(), row.number::<u32>().unwrap()), ("numbers", 7));
        assert_eq!(row.key::<(String, String)>().unwrap(), ("foo".into(), "1.0.0".into()));
        assert!(reader.next_row().unwrap().is_none());
    }

    #[test]
    fn it_is_named_after_its_lines_and_not_after_their_compression() {
        let (name, bytes) = checkpoint();
        let mut lines = Vec::new();
        GzDecoder::new(&bytes[..]).read_to_end(&mut lines).unwrap();
        assert_eq!(name.hash, Checksum::of(&lines));
        let mut other = GzEncoder::new(Vec::new(), Compression::none());
        other.write_all(&lines).unwrap();
        let other = other.finish().unwrap();
        assert_ne!(other, bytes);
        assert_eq!(verdict(name, other).unwrap(), header(2));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed_or_harmless() {
        let (name, bytes) = checkpoint();
        let whole = verdict(name, bytes.clone()).unwrap();
        for at in 0..bytes.len() {
            assert!(verdict(name, bytes.slice(..at)).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                // Some bits of gzip say nothing about what it holds.
                match verdict(name, changed) {
                    Ok(header) => assert_eq!(header, whole, "bit {bit} at {at}"),
                    Err(Unsound::Damaged(_) | Unsound::Misnamed) => (),
                    Err(other) => panic!("bit {bit} at {at}: {other}"),
                }
            }
        }
        let longer = [&bytes[..], b"more"].concat();
        assert!(matches!(verdict(name, longer), Err(Unsound::Damaged(_))));
    }

    #[test]
    fn the_name_decides_what_it_is() {
        let (name, bytes) = checkpoint();
        let later = Name { seq: 41, ..name };
        assert!(matches!(verdict(later, bytes.clone()), Err(Unsound::Misnamed)));
        let other = Name { hash: Checksum::of(b"other"), ..name };
        assert!(matches!(verdict(other, bytes), Err(Unsound::Misnamed)));
    }

    #[test]
    fn another_registry_another_schema_and_an_unknown_level_are_told_apart() {
        assert!(header(0).check("ours", 1).is_ok());
        assert!(matches!(header(0).check("theirs", 1), Err(Unsound::Foreign(_))));
        assert!(matches!(header(0).check("ours", 2), Err(Unsound::Schema(1, 2))));
        let newer = Header { level: Level::KNOWN.next(), ..header(0) };
        assert!(matches!(newer.check("ours", 1), Err(Unsound::Level(..))));
    }

    #[test]
    fn rows_are_counted() {
        assert!(Writer::begin(&header(1)).unwrap().finish().is_err());
        assert!(Writer::begin(&header(0)).unwrap().row("crates", &1, b"{}").is_err());
    }

    #[test]
    fn a_name_is_its_text_and_the_newest_is_the_greatest() {
        let (name, _) = checkpoint();
        let text = name.to_string();
        assert!(text.starts_with("00000000000000000040-") && text.len() == 85, "{text}");
        assert_eq!(text.parse(), Ok(name));
        for bad in ["", "40", "40-ab", &text.replacen('0', "", 1), &text.to_uppercase()] {
            assert_eq!(bad.parse::<Name>(), Err(NameError), "{bad}");
        }
        assert!(Name { seq: 41, hash: Checksum::from_bytes([0; 32]) } > name);
    }
}
