//! The syntax tree of an expression: what was written, with the place of every part. Nothing here
//! is checked; names and types are the business of `typing`.

use crate::ir::Op;
use crate::source::{Span, Spanned};

/// One node and its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Ast {
    pub kind: Kind,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Null,
    /// A name on its own: `input`, `steps`, an item.
    Name(String),
    List(Vec<Ast>),
    /// `of.name` or, if `optional`, `of?.name`; `dot` is the place of the operator.
    Field {
        of: Box<Ast>,
        name: Spanned<String>,
        optional: bool,
        dot: Span,
    },
    Index {
        of: Box<Ast>,
        index: Box<Ast>,
    },
    /// `function(args)` or `receiver.function(args)`.
    Call {
        receiver: Option<Box<Ast>>,
        function: Spanned<String>,
        args: Vec<Ast>,
    },
    Not(Box<Ast>),
    Negate(Box<Ast>),
    Binary {
        op: Spanned<Op>,
        left: Box<Ast>,
        right: Box<Ast>,
    },
    /// `left ?? right`; `op` is the place of the operator.
    Coalesce {
        left: Box<Ast>,
        right: Box<Ast>,
        op: Span,
    },
    If {
        condition: Box<Ast>,
        then: Box<Ast>,
        other: Box<Ast>,
    },
}

impl Ast {
    /// Whether its evaluation can be the failure `ExpressionError`: arithmetic can overflow or
    /// divide by zero. Without types, so a text that is joined with `+` counts too.
    pub fn may_fail(&self) -> bool {
        let mut fails = false;
        self.walk(&mut |part| {
            fails |= match &part.kind {
                Kind::Negate(_) => true,
                Kind::Call { function, .. } => {
                    matches!(function.value.as_str(), "sum" | "integer")
                }
                Kind::Binary { op, .. } => matches!(
                    op.value,
                    Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Remainder
                ),
                _ => false,
            }
        });
        fails
    }

    /// Calls `visit` for each part, the outer before the inner.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Ast)) {
        visit(self);
        match &self.kind {
            Kind::Text(_)
            | Kind::Integer(_)
            | Kind::Number(_)
            | Kind::Boolean(_)
            | Kind::Null
            | Kind::Name(_) => {}
            Kind::List(items) => items.iter().for_each(|item| item.walk(visit)),
            Kind::Field { of, .. } | Kind::Not(of) | Kind::Negate(of) => of.walk(visit),
            Kind::Index { of, index } => {
                of.walk(visit);
                index.walk(visit);
            }
            Kind::Call { receiver, args, .. } => {
                receiver.iter().for_each(|of| of.walk(visit));
                args.iter().for_each(|arg| arg.walk(visit));
            }
            Kind::Binary { left, right, .. } | Kind::Coalesce { left, right, .. } => {
                left.walk(visit);
                right.walk(visit);
            }
            Kind::If { condition, then, other } => {
                [condition, then, other].into_iter().for_each(|part| part.walk(visit))
            }
        }
    }

    /// Whether it reads the item `item` or the result of one of the steps `steps`, or asks for the
    /// time: something that may differ from one element or round to the next.
    pub fn reads_of_loop(&self, item: Option<&str>, steps: &dyn Fn(&str) -> bool) -> bool {
        let mut reads = false;
        self.walk(&mut |part| {
            reads |= match &part.kind {
                Kind::Name(name) => item == Some(name.as_str()),
                Kind::Field { of, name, .. } => {
                    matches!(&of.kind, Kind::Name(root) if root == "steps") && steps(&name.value)
                }
                Kind::Call { receiver: None, function, .. } => function.value == "now",
                _ => false,
            };
        });
        reads
    }

    /// Whether it reads anything at all.
    pub fn reads_something(&self) -> bool {
        let mut reads = false;
        self.walk(&mut |part| {
            reads |= matches!(&part.kind, Kind::Name(_) | Kind::Call { receiver: None, .. })
        });
        reads
    }

    /// Whether this is a literal, also a negative one or a list of literals: something whose value
    /// is known while reading.
    pub fn is_literal(&self) -> bool {
        match &self.kind {
            Kind::Text(_) | Kind::Integer(_) | Kind::Number(_) | Kind::Boolean(_) | Kind::Null => {
                true
            }
            Kind::List(items) => items.iter().all(Ast::is_literal),
            _ => false,
        }
    }
}
