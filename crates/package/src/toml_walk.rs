//! TOML that somebody else wrote, walked instead of built: a visitor sees each value with its place, and
//! keeps what it wants. A tree of everything would take several hundred bytes for each byte of a hostile
//! text (`{a.a.a.a=1},` repeated).
//!
//! The text is read expression by expression (a `key = value` or a table header), so that memory grows
//! with the longest expression; beside that stands the `Shape`: 24 bytes for each key, without which
//! a key that is written twice would mean one thing here and another to cargo. What is valid is what
//! the `toml` crate, and so cargo, takes, but for the limits here.

mod shape;

use std::borrow::Cow;

use toml::value::Datetime;
use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::lexer::{Token, TokenKind};
use toml_parser::parser::{EventReceiver, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Raw, Source, Span};

use self::shape::{Id, Shape};

/// How much a text may hold.
#[derive(Debug, Clone, Copy)]
pub struct WalkLimits {
    /// Its keys, each part of a dotted one counted.
    pub keys: usize,
    /// How deep a value may lie: keys and arrays on the way to it.
    pub depth: usize,
}

/// The limits for a Cargo.toml.
pub const MANIFEST: WalkLimits = WalkLimits { keys: 20_000, depth: 32 };

/// The most tokens in one expression: 24 bytes each.
const MAX_TOKENS: usize = 65_536;

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The keys on the way to it.
    pub keys: &'a [&'a str],
    /// How many arrays, of tables too, lie on the way: a value that a plain path leads to has 0.
    pub arrays: usize,
}

/// A value; what is in a table or an array comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// A table, written out or inline. One that is only implied by the keys below it is not seen.
    Table,
    /// An array, or the first table of an array of tables.
    Array,
    /// A string.
    Text(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// A number or a time.
    Other,
}

/// Who sees the values, in the order of the text.
pub trait Visitor {
    /// Why it wants to see no more.
    type Error;

    /// The value of a key.
    ///
    /// # Errors
    /// Ends the walk.
    fn value(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), Self::Error>;

    /// An item of the array at a place; `at.arrays` does not count that array.
    ///
    /// # Errors
    /// Ends the walk.
    fn item(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), Self::Error>;
}

/// Why a walk ended early.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped<E> {
    /// The text is not TOML, or holds more than the limits.
    Toml(TomlError),
    /// The visitor's word.
    Visitor(E),
}

/// Why a text is not TOML that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TomlError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it: no words of the text.
    pub why: String,
}

/// Shows a visitor all values of a text.
///
/// # Errors
/// When the text is not TOML, holds too much, or the visitor has seen enough.
pub fn walk<V: Visitor>(
    text: &str,
    limits: WalkLimits,
    visitor: &mut V,
) -> Result<(), Stopped<V::Error>> {
    let source = Source::new(text);
    let mut walk = Walk::new(source, limits, visitor);
    let mut expression: Vec<Token> = Vec::new();
    let mut open = 0_usize;
    for token in source.lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                open = open.saturating_sub(1);
            }
            _ => {}
        }
        if expression.len() == MAX_TOKENS {
            let why = format!("an expression of more than {MAX_TOKENS} tokens");
            return Err(Stopped::Toml(error_at(text, token.span(), why)));
        }
        expression.push(token);
        if open == 0 && token.kind() == TokenKind::Newline {
            walk.expression(&expression)?;
            expression.clear();
        }
    }
    walk.expression(&expression)
}

fn error_at(text: &str, span: Span, why: String) -> TomlError {
    let before = text.as_bytes().get(..span.start()).unwrap_or_default();
    TomlError { line: before.iter().filter(|byte| **byte == b'\n').count() + 1, why }
}

/// What the parser says, without the excerpt that it would show.
fn described(error: &ParseError) -> String {
    let mut why = error.description().to_owned();
    for (nth, expected) in error.expected().unwrap_or_default().iter().enumerate() {
        why.push_str(if nth == 0 { "; expected " } else { ", " });
        match expected {
            Expected::Literal(text) => why.extend(["`", text, "`"]),
            Expected::Description(text) => why.push_str(text),
            _ => {}
        }
    }
    why
}

/// A key on its way to its value.
struct Key<'t> {
    name: Cow<'t, str>,
    hash: u64,
}

/// An inline table or an array that is open.
struct Frame {
    /// The inline table; `None` for an array.
    table: Option<Id>,
    /// The length of the path to it.
    path: usize,
}

struct Walk<'t, 'v, V: Visitor> {
    source: Source<'t>,
    limits: WalkLimits,
    visitor: &'v mut V,
    shape: Shape,
    keys_seen: usize,
    /// The keys that are read before their `=` or `]`.
    keys: Vec<Key<'t>>,
    /// The keys on the way to where the walk is.
    path: Vec<Cow<'t, str>>,
    /// The table of the last header, the length of its path, and the arrays on it.
    table: Id,
    header_path: usize,
    header_arrays: usize,
    frames: Vec<Frame>,
    stopped: Option<Stopped<V::Error>>,
}

impl<'t, 'v, V: Visitor> Walk<'t, 'v, V> {
    fn new(source: Source<'t>, limits: WalkLimits, visitor: &'v mut V) -> Self {
        let shape = Shape::default();
        Self {
            source,
            limits,
            visitor,
            table: shape.root(),
            shape,
            keys_seen: 0,
            keys: Vec::new(),
            path: Vec::new(),
            header_path: 0,
            header_arrays: 0,
            frames: Vec::new(),
            stopped: None,
        }
    }

    fn expression(&mut self, tokens: &[Token]) -> Result<(), Stopped<V::Error>> {
        let text = self.source.input();
        let mut first: Option<ParseError> = None;
        parse_document(tokens, self, &mut first);
        // What follows a stop is not looked at: the parser may find more wrong with it.
        match (self.stopped.take(), first) {
            (Some(stopped), _) => Err(stopped),
            (None, Some(error)) => {
                let place = error.unexpected().or(error.context()).unwrap_or_default();
                Err(Stopped::Toml(error_at(text, place, described(&error))))
            }
            (None, None) => Ok(()),
        }
    }

    fn fail(&mut self, span: Span, why: impl Into<String>) {
        let text = self.source.input();
        self.stopped.get_or_insert_with(|| Stopped::Toml(error_at(text, span, why.into())));
    }

    fn raw(&mut self, span: Span, encoding: Option<Encoding>) -> Option<Raw<'t>> {
        let text = self.source.input().get(span.start()..span.end());
        if text.is_none() {
            self.fail(span, "not text");
        }
        Some(Raw::new_unchecked(text?, encoding, span))
    }

    fn depth(&self) -> usize {
        self.path.len() + self.keys.len() + self.header_arrays + self.open_arrays()
    }

    fn open_arrays(&self) -> usize {
        self.frames.iter().filter(|frame| frame.table.is_none()).count()
    }

    fn count_depth(&mut self, span: Span) -> bool {
        let fits = self.depth() <= self.limits.depth;
        if !fits {
            let why = format!("nested more than {} levels deep", self.limits.depth);
            self.fail(span, why);
        }
        fits
    }

    /// Takes the keys before a `=`: the place of the value that follows.
    fn assign(&mut self, span: Span) {
        let keys = std::mem::take(&mut self.keys);
        let mut table = self.frames.last().and_then(|frame| frame.table).unwrap_or(self.table);
        let Some((last, parents)) = keys.split_last() else {
            return self.fail(span, "a value without a key");
        };
        for key in parents {
            match self.shape.dotted(table, key.hash) {
                Some(next) => table = next,
                None => return self.fail(span, "duplicate key"),
            }
        }
        if !self.shape.assign(table, last.hash) {
            return self.fail(span, "duplicate key");
        }
        self.path.extend(keys.into_iter().map(|key| key.name));
    }

    /// Takes the keys of a header, which the values that follow are under.
    fn open_table(&mut self, span: Span, is_array: bool) {
        let keys = std::mem::take(&mut self.keys);
        let Some((last, parents)) = keys.split_last() else {
            return self.fail(span, "a table without a name");
        };
        (self.table, self.header_arrays) = (self.shape.root(), 0);
        for key in parents {
            let Some((next, array)) = self.shape.parent(self.table, key.hash) else {
                return self.fail(span, "duplicate key");
            };
            self.table = next;
            self.header_arrays += usize::from(array);
        }
        let opened = match is_array {
            true => self.shape.array_table(self.table, last.hash),
            false => self.shape.table(self.table, last.hash).map(|id| (id, false)),
        };
        let Some((id, first)) = opened else {
            return self.fail(span, "duplicate key");
        };
        self.table = id;
        self.path.clear();
        self.path.extend(keys.into_iter().map(|key| key.name));
        self.header_path = self.path.len();
        if is_array {
            if first {
                self.show(Node::Array, false);
            }
            self.show(Node::Table, true);
            self.header_arrays += 1;
        } else {
            self.show(Node::Table, false);
        }
    }

    /// A value where the walk is: of the key before it, or the next of an array.
    fn found(&mut self, node: Node<'_>) {
        let is_item = self.frames.last().is_some_and(|frame| frame.table.is_none());
        self.show(node, is_item);
    }

    fn show(&mut self, node: Node<'_>, is_item: bool) {
        if self.stopped.is_some() {
            return;
        }
        let open = self.open_arrays();
        let arrays = self.header_arrays + open - usize::from(is_item && open > 0);
        let keys: Vec<&str> = self.path.iter().map(|key| &**key).collect();
        let at = Place { keys: &keys, arrays };
        let seen = match is_item {
            true => self.visitor.item(at, node),
            false => self.visitor.value(at, node),
        };
        if let Err(error) = seen {
            self.stopped = Some(Stopped::Visitor(error));
        }
    }

    /// Opens an inline table or an array, if there is to be more.
    fn enter(&mut self, span: Span, node: Node<'_>) -> bool {
        if self.stopped.is_some() {
            return false;
        }
        self.found(node);
        let table = (node == Node::Table).then(|| self.shape.inline());
        self.frames.push(Frame { table, path: self.path.len() });
        self.count_depth(span) && self.stopped.is_none()
    }

    fn leave(&mut self) {
        self.frames.pop();
        self.value_ends();
    }

    fn value_ends(&mut self) {
        let path = self.frames.last().map_or(self.header_path, |frame| frame.path);
        self.path.truncate(path);
    }
}

impl<V: Visitor> EventReceiver for Walk<'_, '_, V> {
    fn std_table_close(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        if self.stopped.is_none() {
            self.open_table(span, false);
        }
    }

    fn array_table_close(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        if self.stopped.is_none() {
            self.open_table(span, true);
        }
    }

    fn std_table_open(&mut self, _span: Span, _error: &mut dyn ErrorSink) {
        self.path.clear();
    }

    fn array_table_open(&mut self, _span: Span, _error: &mut dyn ErrorSink) {
        self.path.clear();
    }

    fn inline_table_open(&mut self, span: Span, _error: &mut dyn ErrorSink) -> bool {
        self.enter(span, Node::Table)
    }

    fn inline_table_close(&mut self, _span: Span, _error: &mut dyn ErrorSink) {
        self.leave();
    }

    fn array_open(&mut self, span: Span, _error: &mut dyn ErrorSink) -> bool {
        self.enter(span, Node::Array)
    }

    fn array_close(&mut self, _span: Span, _error: &mut dyn ErrorSink) {
        self.leave();
    }

    fn simple_key(&mut self, span: Span, kind: Option<Encoding>, error: &mut dyn ErrorSink) {
        if self.stopped.is_some() {
            return;
        }
        self.keys_seen += 1;
        if self.keys_seen > self.limits.keys {
            return self.fail(span, format!("more than {} keys", self.limits.keys));
        }
        let Some(raw) = self.raw(span, kind) else { return };
        let mut name = Cow::Borrowed("");
        raw.decode_key(&mut name, error);
        let hash = self.shape.hash(&name);
        self.keys.push(Key { name, hash });
        self.count_depth(span);
    }

    fn key_val_sep(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        if self.stopped.is_none() {
            self.assign(span);
        }
    }

    fn scalar(&mut self, span: Span, kind: Option<Encoding>, error: &mut dyn ErrorSink) {
        if self.stopped.is_some() {
            return;
        }
        let Some(raw) = self.raw(span, kind) else { return };
        let mut text = Cow::Borrowed("");
        match raw.decode_scalar(&mut text, error) {
            ScalarKind::String => self.found(Node::Text(&text)),
            ScalarKind::Boolean(value) => self.found(Node::Bool(value)),
            ScalarKind::DateTime if text.parse::<Datetime>().is_err() => {
                self.fail(span, "not a time");
            }
            // The lexer takes `0x` too; and cargo reads 64 bits.
            ScalarKind::Integer(radix) if i64::from_str_radix(&text, radix.value()).is_err() => {
                self.fail(span, "not an integer of 64 bits");
            }
            _ => self.found(Node::Other),
        }
        self.value_ends();
    }

    fn comment(&mut self, span: Span, error: &mut dyn ErrorSink) {
        if let Some(raw) = self.raw(span, None) {
            raw.decode_comment(error);
        }
    }

    fn newline(&mut self, span: Span, error: &mut dyn ErrorSink) {
        if let Some(raw) = self.raw(span, None) {
            raw.decode_newline(error);
        }
    }
}

#[cfg(test)]
mod tests;
