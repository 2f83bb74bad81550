//! Splits the text of an expression into tokens. It knows the spelling of things and nothing of
//! their meaning; what other languages would write (`=`, `and`, `===`) is recognised here to say
//! what Crux writes instead.

use super::{Failure, Offset};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Name(String),
    /// Without sign; up to 2^63, so that the parser can build the smallest integer.
    Integer(u64),
    Number(f64),
    Text(String),
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Lexeme {
    pub token: Token,
    pub at: Offset,
}

/// Longest first, so that the first match is the right one.
const SYMBOLS: [&str; 24] = [
    "??", "?.", "==", "!=", "<=", ">=", "&&", "||", "?", ":", "<", ">", "+", "-", "*", "/", "%",
    "!", "(", ")", "[", "]", ",", ".",
];

/// Spellings of other languages, longest first, and what to write here.
const FOREIGN: [(&str, &str); 23] = [
    ("===", "write `==`"),
    ("!==", "write `!=`"),
    ("=>", "write `>=`, or name the variable first: `xs.map(x, x.price)`"),
    ("->", "write `.`"),
    ("**", "there is no power operator: multiply, or compute it in a step"),
    ("++", "write `+ 1`"),
    ("=", "write `==` to compare; expressions assign nothing"),
    ("&", "write `&&`"),
    ("|", "write `||`"),
    ("<>", "write `!=`"),
    ("${", "this is an expression already: leave out `${` and `}`"),
    ("{{", "this is an expression already: leave out `{{` and `}}`"),
    (
        "{",
        "there are no records in expressions: write the record in YAML, with an expression for each field",
    ),
    ("`", "write strings in single or double quotes"),
    (";", "an expression is one value"),
    ("$", "names have no `$`: write `input.x`"),
    ("@", "names have no `@`"),
    ("\u{201c}", STRAIGHT),
    ("\u{201d}", STRAIGHT),
    ("\u{201e}", STRAIGHT),
    ("\u{2018}", STRAIGHT),
    ("\u{2019}", STRAIGHT),
    ("\u{ab}", STRAIGHT),
];

/// What word processors and chats make of quotes.
const STRAIGHT: &str = "write straight quotes: `\"…\"` or `'…'`";

pub fn tokens(text: &str) -> Result<Vec<Lexeme>, Failure> {
    let mut lexer = Lexer { text, at: 0 };
    let mut all = Vec::new();
    loop {
        let lexeme = lexer.next()?;
        let ended = lexeme.token == Token::End;
        all.push(lexeme);
        if ended {
            return Ok(all);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Result<Lexeme, Failure> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(Lexeme { token: Token::End, at: Offset::new(start, start) });
        };
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                Token::Name(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned())
            }
            '0'..='9' => self.number(start)?,
            '"' | '\'' => Token::Text(self.quoted(first)?),
            _ => self.symbol(first)?,
        };
        Ok(Lexeme { token, at: Offset::new(start, self.at) })
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn number(&mut self, start: usize) -> Result<Token, Failure> {
        self.take_while(|c| c.is_ascii_digit());
        let mut whole = true;
        let mut after = self.rest().chars();
        if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
            whole = false;
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if let Some(after) = self.rest().strip_prefix(['e', 'E']) {
            let exponent = after.strip_prefix(['+', '-']).unwrap_or(after);
            if exponent.starts_with(|c: char| c.is_ascii_digit()) {
                whole = false;
                self.at += self.rest().len() - exponent.len();
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let unit = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let at = Offset::new(start, self.at);
        if !unit.is_empty() {
            let failure = Failure::new(at, format!("`{digits}{unit}` is not a number"));
            return Err(if matches!(unit, "ms" | "s" | "m" | "h" | "d") {
                failure.help(format!("write `duration(\"{digits}{unit}\")`"))
            } else if digits == "0" && unit.starts_with(['x', 'b', 'o']) {
                failure.help("numbers are decimal")
            } else if unit.starts_with('_') {
                failure.help("write the digits without `_`")
            } else {
                failure.help("a name begins with a letter or `_`")
            });
        }
        if whole {
            return match digits.parse::<u64>() {
                Ok(value) if value <= 1 << 63 => Ok(Token::Integer(value)),
                _ => {
                    Err(Failure::new(at, format!("`{digits}` does not fit an integer of 64 bits"))
                        .help(format!("write `{digits}.0` for a number, or keep it as a string")))
                }
            };
        }
        match digits.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Number(value)),
            _ => Err(Failure::new(at, format!("`{digits}` does not fit a number (a double)"))),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Failure> {
        let start = self.at;
        self.at += 1;
        let mut value = String::new();
        loop {
            let before = self.at;
            let Some(c) = self.rest().chars().next() else {
                return Err(Failure::new(
                    Offset::new(start, self.text.len()),
                    "this string has no end",
                )
                .help(format!(
                    "close it with `{quote}`; inside a string write the quote as `\\{quote}`"
                )));
            };
            self.at += c.len_utf8();
            match c {
                _ if c == quote => return Ok(value),
                '$' if self.rest().starts_with('{') => {
                    let at = Offset::new(before, before + 2);
                    return Err(Failure::new(at, "`${` inside a string of an expression stands for itself").help(format!(
                        "join strings with `+`, as in `{quote}order {quote} + input.id`; a literal `${{` is written `\\${{`"
                    )));
                }
                '\\' => value.push(self.escape(before)?),
                _ => value.push(c),
            }
        }
    }

    /// What follows a `\` that stands at `start`.
    fn escape(&mut self, start: usize) -> Result<char, Failure> {
        let letter = self.rest().chars().next();
        self.at += letter.map_or(0, char::len_utf8);
        let value = match letter {
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some(c @ ('\\' | '"' | '\'' | '`' | '$')) => Some(c),
            Some('u') => {
                let digits = self
                    .rest()
                    .get(..4)
                    .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                    .unwrap_or_default();
                self.at += digits.len();
                u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
            }
            _ => None,
        };
        value.ok_or_else(|| {
            let written = self.text.get(start..self.at).unwrap_or_default();
            Failure::new(Offset::new(start, self.at), format!("`{written}` is not an escape"))
                .help("known are `\\n`, `\\r`, `\\t`, `\\\\`, `\\\"`, `\\'` and `\\u` with four hexadecimal digits")
        })
    }

    fn symbol(&mut self, first: char) -> Result<Token, Failure> {
        let foreign = FOREIGN
            .iter()
            .filter(|(spelling, _)| self.rest().starts_with(spelling))
            .max_by_key(|(spelling, _)| spelling.len());
        let ours = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol));
        match (foreign, ours) {
            (Some((spelling, help)), ours)
                if ours.is_none_or(|symbol| symbol.len() < spelling.len()) =>
            {
                Err(Failure::new(
                    Offset::new(self.at, self.at + spelling.len()),
                    format!("`{spelling}` means nothing in an expression"),
                )
                .help(*help))
            }
            (_, Some(symbol)) => {
                self.at += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            _ => Err(Failure::new(
                Offset::new(self.at, self.at + first.len_utf8()),
                format!("`{}` means nothing in an expression", first.escape_debug()),
            )),
        }
    }
}
