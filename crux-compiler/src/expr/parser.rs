//! A Pratt parser: tokens in, tree out. Precedence, loosest first: `? :`, `??`, `||`, `&&`,
//! comparison and `in` (which do not chain), `+ -`, `* / %`, unary, postfix. Depth is counted while
//! the tree grows, so that chains and brackets have the same limit.

use super::ast::{Ast, Kind};
use super::lexer::{Lexeme, Token, tokens};
use super::{Failure, MAX_DEPTH, Offset};
use crate::ir::Op;
use crate::source::{Span, Spanned};

type Parsed<T = Tree> = Result<T, Failure>;

/// A tree with its place in the text and its depth.
struct Tree {
    ast: Ast,
    at: Offset,
    depth: usize,
}

/// What binds tighter has the greater power.
mod power {
    pub const TERNARY: u8 = 1;
    pub const COALESCE: u8 = 2;
    pub const OR: u8 = 3;
    pub const AND: u8 = 4;
    pub const COMPARE: u8 = 5;
    pub const ADD: u8 = 6;
    pub const MULTIPLY: u8 = 7;
    pub const UNARY: u8 = 8;
}

enum Infix {
    Ternary,
    Coalesce,
    Binary(Op),
}

pub(super) fn parse(text: &str, locate: &dyn Fn(Offset) -> Span) -> Result<Ast, Failure> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, next: 0, open: 0, locate };
    if parser.token() == &Token::End {
        return Err(Failure::new(Offset::new(0, text.len()), "an expression is missing here"));
    }
    let tree = parser.expression(0)?;
    match parser.token() {
        Token::End => Ok(tree.ast),
        _ => Err(parser.unexpected_after()),
    }
}

struct Parser<'a> {
    tokens: Vec<Lexeme>,
    next: usize,
    /// Active calls of `expression` and `operand`.
    open: usize,
    locate: &'a dyn Fn(Offset) -> Span,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |lexeme| &lexeme.token)
    }

    fn at(&self) -> Offset {
        // The lexer's last token is always `End`.
        self.tokens
            .get(self.next)
            .or(self.tokens.last())
            .map_or(Offset::new(0, 0), |lexeme| lexeme.at)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token(), Token::Symbol(found) if *found == symbol)
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str, opened: Offset, what: &str) -> Parsed<Offset> {
        let at = self.at();
        if self.eat(symbol) {
            return Ok(at);
        }
        if self.token() == &Token::End {
            return Err(Failure::new(opened, format!("this {what} has no end"))
                .help(format!("close it with `{symbol}`")));
        }
        Err(self.unexpected_after())
    }

    fn enter(&mut self) -> Parsed<()> {
        self.open += 1;
        if self.open > MAX_DEPTH { Err(too_deep(self.at())) } else { Ok(()) }
    }

    fn tree(&self, kind: Kind, at: Offset, depth: usize) -> Parsed {
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        Ok(Tree { ast: Ast { kind, span: (self.locate)(at) }, at, depth })
    }

    fn infix(&self) -> Option<(Infix, u8)> {
        let binary = |op, power| Some((Infix::Binary(op), power));
        match self.token() {
            Token::Name(name) if name == "in" => binary(Op::In, power::COMPARE),
            Token::Symbol(symbol) => match *symbol {
                "?" => Some((Infix::Ternary, power::TERNARY)),
                "??" => Some((Infix::Coalesce, power::COALESCE)),
                "||" => binary(Op::Or, power::OR),
                "&&" => binary(Op::And, power::AND),
                "==" => binary(Op::Equal, power::COMPARE),
                "!=" => binary(Op::NotEqual, power::COMPARE),
                "<" => binary(Op::Less, power::COMPARE),
                "<=" => binary(Op::LessEqual, power::COMPARE),
                ">" => binary(Op::Greater, power::COMPARE),
                ">=" => binary(Op::GreaterEqual, power::COMPARE),
                "+" => binary(Op::Add, power::ADD),
                "-" => binary(Op::Subtract, power::ADD),
                "*" => binary(Op::Multiply, power::MULTIPLY),
                "/" => binary(Op::Divide, power::MULTIPLY),
                "%" => binary(Op::Remainder, power::MULTIPLY),
                _ => None,
            },
            _ => None,
        }
    }

    /// An expression whose operators all bind at least as tightly as `weakest`.
    fn expression(&mut self, weakest: u8) -> Parsed {
        self.enter()?;
        let mut left = self.operand()?;
        while let Some((infix, power)) = self.infix().filter(|(_, power)| *power >= weakest) {
            let op = self.at();
            self.next += 1;
            left = match infix {
                Infix::Ternary => self.ternary(left, op)?,
                Infix::Coalesce => {
                    let right = self.expression(power + 1)?;
                    let (at, depth) = around(&left, &right);
                    let op = (self.locate)(op);
                    self.tree(
                        Kind::Coalesce { left: Box::new(left.ast), right: Box::new(right.ast), op },
                        at,
                        depth,
                    )?
                }
                Infix::Binary(binary) => self.binary(left, binary, power, op)?,
            };
        }
        self.open -= 1;
        Ok(left)
    }

    fn binary(&mut self, left: Tree, binary: Op, power: u8, op: Offset) -> Parsed {
        let right = self.expression(power + 1)?;
        if power == power::COMPARE && matches!(self.infix(), Some((_, power::COMPARE))) {
            return Err(Failure::new(self.at(), "comparisons do not chain")
                .help("compare in two steps with `&&`, or put one comparison in parentheses"));
        }
        let (at, depth) = around(&left, &right);
        let op = Spanned::new(binary, (self.locate)(op));
        self.tree(
            Kind::Binary { op, left: Box::new(left.ast), right: Box::new(right.ast) },
            at,
            depth,
        )
    }

    fn ternary(&mut self, condition: Tree, question: Offset) -> Parsed {
        let then = self.expression(power::TERNARY)?;
        if !self.eat(":") {
            if self.token() == &Token::End {
                return Err(Failure::new(question, "this `?` has no `:`")
                    .help("write `condition ? one : other`, or `??` for a default"));
            }
            return Err(self.unexpected_after());
        }
        let other = self.expression(power::TERNARY)?;
        let at = condition.at.to(other.at);
        let depth = 1 + condition.depth.max(then.depth).max(other.depth);
        let [condition, then, other] = [condition, then, other].map(|tree| Box::new(tree.ast));
        self.tree(Kind::If { condition, then, other }, at, depth)
    }

    /// A prefix operator with what it binds, or a primary with its postfixes.
    fn operand(&mut self) -> Parsed {
        let at = self.at();
        if self.eat("!") {
            let of = self.expression(power::UNARY)?;
            let (at, depth) = (at.to(of.at), of.depth + 1);
            return self.tree(Kind::Not(Box::new(of.ast)), at, depth);
        }
        if self.eat("-") {
            if let Token::Integer(value) = *self.token() {
                let end = self.at();
                self.next += 1;
                // 2^63 is the only value that fits with the sign and not without; the lexer lets
                // nothing greater pass.
                let literal =
                    self.tree(Kind::Integer(0i64.wrapping_sub_unsigned(value)), at.to(end), 1)?;
                return self.postfixes(literal);
            }
            let of = self.expression(power::UNARY)?;
            let (at, depth) = (at.to(of.at), of.depth + 1);
            let kind = match of.ast.kind {
                Kind::Number(value) => Kind::Number(-value),
                _ => Kind::Negate(Box::new(of.ast)),
            };
            return self.tree(kind, at, depth);
        }
        let primary = self.primary()?;
        self.postfixes(primary)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let token = self.token().clone();
        if token != Token::End {
            self.next += 1;
        }
        let kind = match token {
            Token::Integer(value) => match i64::try_from(value) {
                Ok(value) => Kind::Integer(value),
                Err(_) => {
                    return Err(Failure::new(
                        at,
                        format!("`{value}` does not fit an integer of 64 bits"),
                    ));
                }
            },
            Token::Number(value) => Kind::Number(value),
            Token::Text(value) => Kind::Text(value),
            Token::Name(name) => return self.name(name, at),
            Token::Symbol("(") => {
                let inner = self.expression(0)?;
                let end = self.expect(")", at, "parenthesis")?;
                return Ok(Tree { at: at.to(end), ..inner });
            }
            Token::Symbol("[") => {
                let (items, depth, end) = self.list("]", at, "list")?;
                return self.tree(Kind::List(items), at.to(end), depth + 1);
            }
            Token::Symbol(symbol) => {
                return Err(Failure::new(at, format!("a value is missing before `{symbol}`")));
            }
            Token::End => return Err(self.missing_value()),
        };
        self.tree(kind, at, 1)
    }

    fn name(&mut self, name: String, at: Offset) -> Parsed {
        match name.as_str() {
            "true" => return self.tree(Kind::Boolean(true), at, 1),
            "false" => return self.tree(Kind::Boolean(false), at, 1),
            "null" => return self.tree(Kind::Null, at, 1),
            "not" => return Err(not_an_operator(at, "not", "!")),
            "in" => return Err(Failure::new(at, "a value is missing before `in`")),
            _ => {}
        }
        let opened = self.at();
        if !self.eat("(") {
            return self.tree(Kind::Name(name), at, 1);
        }
        let (args, depth, end) = self.list(")", opened, "parenthesis")?;
        let function = Spanned::new(name, (self.locate)(at));
        self.tree(Kind::Call { receiver: None, function, args }, at.to(end), depth + 1)
    }

    fn postfixes(&mut self, mut of: Tree) -> Parsed {
        loop {
            let at = self.at();
            let optional = self.is("?.");
            if optional || self.is(".") {
                self.next += 1;
                of = self.member(of, optional, at)?;
            } else if self.eat("[") {
                let index = self.expression(0)?;
                let end = self.expect("]", at, "index")?;
                let (at, depth) = (of.at.to(end), 1 + of.depth.max(index.depth));
                of = self.tree(
                    Kind::Index { of: Box::new(of.ast), index: Box::new(index.ast) },
                    at,
                    depth,
                )?;
            } else {
                return Ok(of);
            }
        }
    }

    fn member(&mut self, of: Tree, optional: bool, dot: Offset) -> Parsed {
        let at = self.at();
        let Token::Name(name) = self.token().clone() else {
            let failure = Failure::new(at, "a field's name is missing after the dot");
            return Err(if self.is("[") {
                failure.help("write `xs[0]` without a dot")
            } else {
                failure
            });
        };
        self.next += 1;
        let name = Spanned::new(name, (self.locate)(at));
        let opened = self.at();
        if self.eat("(") {
            if optional {
                return Err(Failure::new(dot, "a function cannot follow `?.`")
                    .help("give the value a default first: `(value ?? default)`"));
            }
            let (args, inner, end) = self.list(")", opened, "parenthesis")?;
            let (at, depth) = (of.at.to(end), 1 + of.depth.max(inner));
            return self.tree(
                Kind::Call { receiver: Some(Box::new(of.ast)), function: name, args },
                at,
                depth,
            );
        }
        let (at, depth) = (of.at.to(at), of.depth + 1);
        let dot = (self.locate)(dot);
        self.tree(Kind::Field { of: Box::new(of.ast), name, optional, dot }, at, depth)
    }

    /// What stands between commas up to `close`: the trees, the greatest depth and the place of
    /// `close`.
    fn list(
        &mut self,
        close: &'static str,
        opened: Offset,
        what: &str,
    ) -> Parsed<(Vec<Ast>, usize, Offset)> {
        let (mut items, mut depth) = (Vec::new(), 0);
        while !self.is(close) {
            let item = self.expression(0)?;
            depth = depth.max(item.depth);
            items.push(item.ast);
            if !self.eat(",") {
                break;
            }
        }
        let end = self.expect(close, opened, what)?;
        Ok((items, depth, end))
    }

    fn missing_value(&self) -> Failure {
        match self.next.checked_sub(1).and_then(|before| self.tokens.get(before)) {
            Some(Lexeme { token: Token::Symbol(symbol), at }) => {
                Failure::new(*at, format!("a value is missing after `{symbol}`"))
            }
            _ => Failure::new(self.at(), "a value is missing here"),
        }
    }

    /// The token at hand cannot follow what stands before it.
    fn unexpected_after(&self) -> Failure {
        let at = self.at();
        match self.token() {
            Token::Name(name) => {
                let failure = Failure::new(at, format!("unexpected `{name}`"));
                match name.as_str() {
                    "and" => not_an_operator(at, name, "&&"),
                    "or" => not_an_operator(at, name, "||"),
                    "is" => not_an_operator(at, name, "=="),
                    "mod" => not_an_operator(at, name, "%"),
                    "if" | "else" => failure.help("write `condition ? one : other`"),
                    "like" | "matches" => failure
                        .help("known for strings are `contains`, `startsWith` and `endsWith`"),
                    _ => failure.help("an operator is missing before it; strings are quoted"),
                }
            }
            Token::Symbol("!") => Failure::new(at, "unexpected `!`")
                .help("write `!=`, or `!(…)` before the whole condition"),
            Token::Symbol(symbol) => Failure::new(at, format!("unexpected `{symbol}`")),
            Token::Integer(_) | Token::Number(_) | Token::Text(_) => {
                Failure::new(at, "an operator is missing before this value")
            }
            Token::End => self.missing_value(),
        }
    }
}

fn around(left: &Tree, right: &Tree) -> (Offset, usize) {
    (left.at.to(right.at), 1 + left.depth.max(right.depth))
}

fn not_an_operator(at: Offset, written: &str, ours: &str) -> Failure {
    Failure::new(at, format!("`{written}` is not an operator here")).help(format!("use `{ours}`"))
}

fn too_deep(at: Offset) -> Failure {
    let mut failure =
        Failure::new(at, format!("this expression is nested more than {MAX_DEPTH} levels deep"))
            .help("do this in a step");
    failure.limit = true;
    failure
}
