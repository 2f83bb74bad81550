//! Code with the variables that it reads. What writes a piece knows them; what puts pieces together
//! adds them up, so that a function names only the parameters that its body reads, and calls the
//! others `_`.

use std::ops::BitOr;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use super::names::ident;

/// A set of the variables that generated functions call by fixed names, and of two that are called
/// otherwise in every scope: what is around it ([`Reads::UP`]) and its element ([`Reads::ITEM`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reads(u16);

impl Reads {
    pub(super) const NOTHING: Self = Self(0);
    /// The live values of the step.
    pub(super) const AT: Self = Self(1);
    /// The view of the scope in which the function stands.
    pub(super) const UP: Self = Self(1 << 1);
    /// The view that is made for the scope inside.
    pub(super) const VIEW: Self = Self(1 << 2);
    /// The element of an `each`, where its steps are entered or offered an event.
    pub(super) const ITEM: Self = Self(1 << 3);
    /// The failure that a catch has taken, where its steps are.
    pub(super) const ERROR: Self = Self(1 << 4);
    /// The failure that reaches a catch.
    pub(super) const FAILURE: Self = Self(1 << 5);
    pub(super) const EVENT: Self = Self(1 << 6);
    pub(super) const FX: Self = Self(1 << 7);
    pub(super) const ENV: Self = Self(1 << 8);
    pub(super) const NOW: Self = Self(1 << 9);
    pub(super) const INPUT: Self = Self(1 << 10);

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These if `is_so`, else none.
    pub(super) fn when(self, is_so: bool) -> Self {
        if is_so { self } else { Self::NOTHING }
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The parameter `one`: its name, or `_` where it is not among these.
    pub(super) fn param(self, one: Self) -> TokenStream {
        let name = match one {
            Self::AT => "at",
            Self::VIEW => "view",
            Self::ERROR => "error",
            Self::FAILURE => "failure",
            Self::EVENT => "event",
            Self::ENV => "env",
            Self::NOW => "now",
            Self::INPUT => "input",
            _ => "fx",
        };
        used(self.has(one), &ident(name))
    }
}

impl BitOr for Reads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Code, and what it reads of the variables of the function in which it stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    tokens: TokenStream,
    pub(super) reads: Reads,
}

impl Body {
    pub(super) fn new(tokens: TokenStream, reads: Reads) -> Self {
        Self { tokens, reads }
    }

    /// Of code that reads nothing.
    pub(super) fn constant(tokens: TokenStream) -> Self {
        Self::new(tokens, Reads::NOTHING)
    }

    pub(super) fn has(&self, reads: Reads) -> bool {
        self.reads.has(reads)
    }

    /// The parameter `one` of a function or closure with this body.
    pub(super) fn param(&self, one: Reads) -> TokenStream {
        self.reads.param(one)
    }

    /// Nothing, one, or a tuple.
    pub(super) fn tuple(parts: &[Body]) -> Self {
        let tokens = super::tokens::tuple(parts.iter().map(ToTokens::to_token_stream).collect());
        Self::new(tokens, Self::reads_of(parts))
    }

    /// What any of these reads.
    pub(super) fn reads_of<'b>(parts: impl IntoIterator<Item = &'b Body>) -> Reads {
        parts.into_iter().fold(Reads::NOTHING, |all, part| all | part.reads)
    }
}

impl ToTokens for Body {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.tokens.to_tokens(tokens);
    }

    fn to_token_stream(&self) -> TokenStream {
        self.tokens.clone()
    }
}

/// `name` where it is read, else `_`.
pub(super) fn used(is_read: bool, name: &impl ToTokens) -> TokenStream {
    if is_read { quote!(#name) } else { quote!(_) }
}

/// A body, after what its expressions read of `fx`.
pub(super) fn with_surroundings(body: Body) -> Body {
    let (has_env, has_now) = (body.has(Reads::ENV), body.has(Reads::NOW));
    let env = has_env.then(|| quote!(let env = fx.env();));
    let now = has_now.then(|| quote!(let now = fx.now();));
    let reads = body.reads.without(Reads::ENV | Reads::NOW) | Reads::FX.when(has_env || has_now);
    Body::new(quote!(#env #now #body), reads)
}
