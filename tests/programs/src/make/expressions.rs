//! Expressions of a wanted type that are right by construction.

use super::details::{detail, plain};
use super::model::{Eval, Reads};
use super::program::{Ex, Fields, Kind, Root, Sink, Ty, Val};
use super::random::Random;
use super::{fields, sample, words};

/// What an expression can read where it stands.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Results of steps, of optional types where they may not have run.
    pub steps: Vec<(String, Ty)>,
    pub items: Vec<(String, Ty)>,
    pub event: Option<Fields>,
    pub error: bool,
    /// In a trigger there is the input only, and no `now()`.
    pub is_before: bool,
}

pub struct Expressions<'r> {
    pub random: &'r mut Random,
    pub scope: Scope,
    variables: usize,
}

const TEXTS: [&str; 9] = ["", "a", "b", "abc", "Zoë", "x y", "12", "-3", "2.5"];

fn root(root: Root, ty: Ty) -> Ex {
    Ex::new(ty, Kind::Root(root))
}

fn is_enum(ty: &Ty) -> bool {
    matches!(ty, Ty::Named(name) if !words(name).is_empty())
}

fn fields_of(ty: &Ty) -> Fields {
    match ty.present() {
        Ty::Fields(fields) => fields.clone(),
        Ty::Named(name) => fields(name),
        // The text of a failure is nothing that the model knows.
        Ty::Error => vec![("name".into(), Ty::Str)],
        _ => Vec::new(),
    }
}

/// Whether values of the type have a text.
pub fn has_text(ty: &Ty) -> bool {
    matches!(ty, Ty::Str | Ty::Int | Ty::Num | Ty::Bool | Ty::Time | Ty::Dur) || is_enum(ty)
}

impl<'r> Expressions<'r> {
    pub fn new(random: &'r mut Random, scope: Scope) -> Self {
        Self { random, scope, variables: 0 }
    }

    /// Everything that can be read without computing: roots, their fields, and those of their
    /// records.
    pub fn readable(&self) -> Vec<Ex> {
        let mut all = Vec::new();
        let mut roots: Vec<Ex> = self
            .scope
            .steps
            .iter()
            .map(|(id, ty)| root(Root::Step(id.clone()), ty.clone()))
            .collect();
        roots.extend(
            self.scope.items.iter().map(|(name, ty)| root(Root::Item(name.clone()), ty.clone())),
        );
        roots.push(root(Root::Input, Ty::Fields(sample())));
        if !self.scope.is_before {
            all.extend(
                [Root::InstanceId, Root::RequestId, Root::Region].map(|of| root(of, Ty::Str)),
            );
            all.push(root(Root::StartedAt, Ty::Time));
        }
        roots.extend(
            self.scope.event.iter().map(|fields| root(Root::Event, Ty::Fields(fields.clone()))),
        );
        roots.extend(self.scope.error.then(|| root(Root::Error, Ty::Error)));
        for of in roots {
            let inner = self.members(&of);
            for field in &inner {
                all.extend(self.members(field));
            }
            all.extend(inner);
            // Records without a name are nobody's type but their own.
            if !matches!(of.ty.present(), Ty::Fields(_) | Ty::Error) {
                all.push(of);
            }
        }
        all
    }

    fn members(&self, of: &Ex) -> Vec<Ex> {
        let member = |(name, ty): (String, Ty)| {
            let ty = plain(&ty);
            let ty = if of.ty.is_opt() { ty.opt() } else { ty };
            Ex::new(ty, Kind::Field(Box::new(of.clone()), name))
        };
        fields_of(&of.ty).into_iter().map(member).collect()
    }

    /// Something that can be read, of exactly that type; steps, elements and such before the
    /// input's fields.
    fn read(&mut self, ty: &Ty) -> Option<Ex> {
        let all: Vec<Ex> = self.readable().into_iter().filter(|ex| ex.ty == *ty).collect();
        let near: Vec<&Ex> = all.iter().filter(|ex| !is_of_input(ex)).collect();
        if !near.is_empty() && self.random.chance(70) {
            return Some((*self.random.pick(&near)).clone());
        }
        (!all.is_empty()).then(|| self.random.pick(&all).clone())
    }

    fn literal(&mut self, ty: &Ty) -> Option<Ex> {
        let value = match ty {
            Ty::Str => Val::Str(self.random.one_of(&TEXTS).to_owned()),
            Ty::Int if self.random.chance(3) => {
                Val::Int(*self.random.pick(&[i64::MAX, i64::MIN, 3_000_000_000]))
            }
            Ty::Int => Val::Int(self.random.below(12) as i64 - 3),
            Ty::Num => Val::Num(*self.random.pick(&[0.0, 1.5, -2.25, 100.0, 0.1, 3.0])),
            Ty::Bool => Val::Bool(self.random.chance(50)),
            Ty::Time => Val::Time(*self.random.pick(&[
                0,
                1_767_323_045_000_000,
                1_767_323_045_500_000,
                -1_000_000,
            ])),
            Ty::Dur => Val::Dur(*self.random.pick(&[0, 1_500, 5_400_000, 86_400_000, 90_061_001])),
            _ => return None,
        };
        Some(Ex::new(ty.clone(), Kind::Lit(value)))
    }

    /// Something of exactly that type. `None`: nothing here is.
    pub fn exact(&mut self, ty: &Ty, depth: usize) -> Option<Ex> {
        for _ in 0..3 {
            if depth > 0
                && self.random.chance(75)
                && let Some(made) = self.compute(ty, depth - 1)
            {
                return Some(made);
            }
            let found = if self.random.chance(75) { self.read(ty) } else { self.literal(ty) };
            if found.is_some() {
                return found;
            }
        }
        self.read(ty)
            .or_else(|| self.literal(ty))
            .or_else(|| (depth > 0).then(|| self.compute(ty, depth - 1)).flatten())
    }

    fn must(&mut self, ty: &Ty, depth: usize) -> Option<Box<Ex>> {
        self.exact(ty, depth).map(Box::new)
    }

    /// As [`Self::exact`], but no literal.
    fn no_literal(&mut self, ty: &Ty, depth: usize) -> Option<Box<Ex>> {
        (0..4).find_map(|_| self.exact(ty, depth).filter(|ex| !ex.is_literal())).map(Box::new)
    }

    /// A condition: a boolean that is no literal.
    pub fn condition(&mut self, depth: usize) -> Option<Ex> {
        self.no_literal(&Ty::Bool, depth).map(|ex| *ex)
    }

    fn some_type(&mut self) -> Ty {
        use Ty::{Bool, Dur, Int, Named, Num, Str, Time};
        self.random.pick(&[Str, Int, Num, Bool, Time, Dur, Named("Colour"), Str, Int]).clone()
    }

    fn variable(&mut self) -> String {
        const NAMES: [&str; 6] = ["n", "each", "value", "list", "at", "type"];
        self.variables += 1;
        let name = self.random.one_of(&NAMES);
        let name = if self.scope.items.iter().any(|(item, _)| item == name) {
            format!("v{}", self.scope.items.len())
        } else {
            name.to_owned()
        };
        if self.scope.items.iter().any(|(item, _)| *item == name) {
            format!("w{}", self.variables)
        } else {
            name
        }
    }

    /// `over.how(variable, body)`, the body being of that type; `None`: any.
    fn iterate(
        &mut self,
        how: &'static str,
        over: Box<Ex>,
        body: &Ty,
        depth: usize,
    ) -> Option<Kind> {
        let Ty::List(element) = over.ty.clone() else { return None };
        let variable = self.variable();
        self.scope.items.push((variable.clone(), *element));
        let body = if how == "map" { self.exact(body, depth) } else { self.condition(depth) };
        self.scope.items.pop();
        Some(Kind::Iter(how, over, variable, Box::new(body?)))
    }

    /// A list of elements of any type that is there.
    fn any_list(&mut self, depth: usize) -> Option<Box<Ex>> {
        let lists: Vec<Ex> =
            self.readable().into_iter().filter(|ex| matches!(ex.ty, Ty::List(_))).collect();
        if lists.is_empty() || self.random.chance(20) {
            let element = self.some_type();
            return self.no_literal(&Ty::list(element), depth);
        }
        Some(Box::new(self.random.pick(&lists).clone()))
    }

    fn comparison(&mut self, depth: usize) -> Option<Kind> {
        use Ty::{Dur, Int, Num, Str, Time};
        Some(match self.random.below(9) {
            0 | 1 => {
                let ty = self.random.pick(&[Int, Num, Str, Time, Dur]).clone();
                let op = self.random.one_of(&["<", "<=", ">", ">="]);
                Kind::Bin(op, self.no_literal(&ty, depth)?, self.must(&ty, depth)?)
            }
            2 => {
                // Any type at all, optional ones too.
                let all = self.readable();
                let ty = self.random.pick(&all).ty.clone();
                let left = self.no_literal(&ty, depth)?;
                let right = if ty.is_opt() && self.random.chance(40) {
                    Box::new(Ex::new(ty.clone(), Kind::Null))
                } else {
                    let present =
                        if self.random.chance(50) { ty.present().clone() } else { ty.clone() };
                    self.must(&present, depth)?
                };
                Kind::Bin(self.random.one_of(&["==", "!="]), left, right)
            }
            3 => {
                let ty = if self.random.chance(50) {
                    Ty::Named("Colour")
                } else {
                    Ty::Named("Colour").opt()
                };
                let left = self.no_literal(&ty, depth)?;
                Kind::Bin(self.random.one_of(&["==", "!="]), left, Box::new(self.word(&ty)))
            }
            4 => {
                let ty = self.some_type();
                let left = self.no_literal(&ty, depth)?;
                Kind::Bin(self.random.one_of(&["==", "!="]), left, self.must(&ty, depth)?)
            }
            5 => {
                let ty = self.some_type();
                let element = self.no_literal(&ty, depth)?;
                let count = 1 + self.random.below(3);
                let items: Option<Vec<Ex>> =
                    (0..count)
                        .map(|_| {
                            if is_enum(&ty) { Some(self.word(&ty)) } else { self.exact(&ty, depth) }
                        })
                        .collect();
                Kind::Bin("in", element, Box::new(Ex::new(Ty::list(ty), Kind::List(items?))))
            }
            6 => {
                let list = self.any_list(depth)?;
                let Ty::List(element) = list.ty.clone() else { return None };
                Kind::Bin("in", self.must(&element, depth)?, list)
            }
            7 => {
                let maps: Vec<Ex> =
                    self.readable().into_iter().filter(|ex| matches!(ex.ty, Ty::Map(_))).collect();
                let key = self.must(&Ty::Str, depth)?;
                if maps.is_empty() {
                    return None;
                }
                Kind::Bin("in", key, Box::new(self.random.pick(&maps).clone()))
            }
            _ => {
                let list = self.any_list(depth)?;
                let Ty::List(element) = list.ty.clone() else { return None };
                let part = if element.is_opt() && self.random.chance(30) {
                    Ex::new((*element).clone(), Kind::Null)
                } else {
                    self.exact(&element, depth)?
                };
                Kind::Method("contains", list, vec![part])
            }
        })
    }

    fn word(&mut self, ty: &Ty) -> Ex {
        let Ty::Named(name) = ty.present() else { return Ex::new(ty.clone(), Kind::Null) };
        Ex::new(ty.clone(), Kind::Lit(Val::Word((*self.random.pick(words(name))).to_owned())))
    }

    fn boolean(&mut self, depth: usize) -> Option<Kind> {
        Some(match self.random.below(9) {
            0 => Kind::Not(Box::new(self.condition(depth)?)),
            1 | 2 => {
                let (left, right) = (self.condition(depth)?, self.condition(depth)?);
                Kind::Bin(self.random.one_of(&["&&", "||"]), Box::new(left), Box::new(right))
            }
            3 => {
                let list = self.any_list(depth)?;
                let how = self.random.one_of(&["all", "exists"]);
                self.iterate(how, list, &Ty::Bool, depth)?
            }
            4 => {
                let method = self.random.one_of(&["contains", "startsWith", "endsWith"]);
                let of = self.must(&Ty::Str, depth)?;
                Kind::Method(method, of, vec![self.exact(&Ty::Str, depth)?])
            }
            5 => {
                let optional: Vec<Ex> =
                    self.readable().into_iter().filter(|ex| ex.ty.is_opt()).collect();
                if self.random.chance(30) {
                    let json = self.no_literal(&Ty::Json, 0)?;
                    return Some(Kind::Call("has", vec![*json, self.exact(&Ty::Str, depth)?]));
                }
                if optional.is_empty() || self.random.chance(30) {
                    let ty = self.some_type().opt();
                    return Some(Kind::Call("has", vec![*self.no_literal(&ty, depth)?]));
                }
                Kind::Call("has", vec![self.random.pick(&optional).clone()])
            }
            _ => self.comparison(depth)?,
        })
    }

    /// `c ? a : b` and `a ?? b`, of any type.
    fn choice(&mut self, ty: &Ty, depth: usize) -> Option<Kind> {
        if ty.is_opt() {
            return Some(match self.random.below(4) {
                0 => {
                    let (condition, then) =
                        (self.condition(depth)?, self.no_literal(ty.present(), depth)?);
                    let null = Box::new(Ex::new(ty.clone(), Kind::Null));
                    Kind::If(Box::new(condition), then, null)
                }
                1 => {
                    let (condition, then) =
                        (self.condition(depth)?, self.no_literal(ty.present(), depth)?);
                    Kind::If(Box::new(condition), then, self.no_literal(ty, depth)?)
                }
                2 => Kind::Coalesce(self.no_literal(ty, depth)?, self.no_literal(ty, depth)?),
                _ => {
                    let (condition, then) = (self.condition(depth)?, self.no_literal(ty, depth)?);
                    Kind::If(Box::new(condition), then, self.no_literal(ty, depth)?)
                }
            });
        }
        if self.random.chance(50) {
            let left = self.no_literal(&ty.clone().opt(), depth)?;
            let right = if is_enum(ty) && self.random.chance(50) {
                Box::new(self.word(ty))
            } else {
                self.must(ty, depth)?
            };
            return Some(Kind::Coalesce(left, right));
        }
        Some(Kind::If(
            Box::new(self.condition(depth)?),
            self.no_literal(ty, depth)?,
            self.must(ty, depth)?,
        ))
    }

    fn compute(&mut self, ty: &Ty, depth: usize) -> Option<Ex> {
        if self.random.chance(25) {
            return self.choice(ty, depth).map(|kind| Ex::new(ty.clone(), kind));
        }
        let kind = match ty {
            Ty::Bool => self.boolean(depth)?,
            Ty::Str => match self.random.below(6) {
                0 => Kind::Bin("+", self.must(ty, depth)?, self.must(ty, depth)?),
                1 => Kind::Method(
                    self.random.one_of(&["lower", "upper"]),
                    self.must(ty, depth)?,
                    Vec::new(),
                ),
                2 => Kind::Method(
                    "join",
                    self.must(&Ty::list(Ty::Str), depth)?,
                    vec![self.exact(ty, depth)?],
                ),
                _ => {
                    let of = self.some_type();
                    if of == Ty::Str {
                        return None;
                    }
                    Kind::Call("string", vec![self.exact(&of, depth)?])
                }
            },
            Ty::Int => match self.random.below(8) {
                0 => {
                    let list = self.any_list(depth)?;
                    Kind::Call("size", vec![*list])
                }
                1 => Kind::Call("size", vec![self.exact(&Ty::Str, depth)?]),
                2 => Kind::Method("sum", self.no_literal(&Ty::list(Ty::Int), depth)?, Vec::new()),
                3 => Kind::Neg(self.no_literal(ty, depth)?),
                4 => Kind::Call("integer", vec![self.exact(&Ty::Num, depth)?]),
                5 => {
                    let divisor =
                        Ex::new(Ty::Int, Kind::Lit(Val::Int(*self.random.pick(&[1, 2, 3, -2]))));
                    let right = if self.random.chance(70) {
                        Box::new(divisor)
                    } else {
                        self.no_literal(ty, depth)?
                    };
                    let op = if is_zero(&right) { "+" } else { self.random.one_of(&["/", "%"]) };
                    Kind::Bin(op, self.must(ty, depth)?, right)
                }
                _ => Kind::Bin(
                    self.random.one_of(&["+", "-", "*"]),
                    self.must(ty, depth)?,
                    self.must(ty, depth)?,
                ),
            },
            Ty::Num => match self.random.below(5) {
                0 => Kind::Call("number", vec![self.exact(&Ty::Int, depth)?]),
                1 => Kind::Method("sum", self.no_literal(&Ty::list(Ty::Num), depth)?, Vec::new()),
                2 => Kind::Neg(self.no_literal(ty, depth)?),
                _ => {
                    let op = self.random.one_of(&["+", "-", "*", "/", "%"]);
                    let (left, right) = (self.must(ty, depth)?, self.must(ty, depth)?);
                    let op = if is_zero(&right) { "+" } else { op };
                    Kind::Bin(op, left, right)
                }
            },
            Ty::Time => match self.random.below(3) {
                0 if !self.scope.is_before => Kind::Call("now", Vec::new()),
                _ => Kind::Bin(
                    self.random.one_of(&["+", "-"]),
                    self.must(ty, depth)?,
                    self.must(&Ty::Dur, depth)?,
                ),
            },
            Ty::Dur => match self.random.below(2) {
                0 => Kind::Bin("-", self.must(&Ty::Time, depth)?, self.must(&Ty::Time, depth)?),
                _ => Kind::Bin(
                    self.random.one_of(&["+", "-"]),
                    self.must(ty, depth)?,
                    self.must(ty, depth)?,
                ),
            },
            Ty::List(element) => match self.random.below(5) {
                0 => {
                    let count = 1 + self.random.below(3);
                    let mut items = vec![*self.no_literal(element, depth)?];
                    for _ in 1..count {
                        items.push(self.exact(element, depth)?);
                    }
                    Kind::List(items)
                }
                1 => Kind::Bin("+", self.must(ty, depth)?, self.must(ty, depth)?),
                2 => {
                    let list = self.no_literal(ty, depth)?;
                    self.iterate("filter", list, &Ty::Bool, depth)?
                }
                _ => {
                    let list = self.any_list(depth)?;
                    self.iterate("map", list, element, depth)?
                }
            },
            Ty::Opt(inner) => match (&**inner, self.random.below(4)) {
                (Ty::Int | Ty::Num | Ty::Time | Ty::Dur, 0) => Kind::Method(
                    self.random.one_of(&["min", "max"]),
                    self.no_literal(&Ty::list((**inner).clone()), depth)?,
                    Vec::new(),
                ),
                (Ty::Int, 1) => Kind::Call("integer", vec![*self.no_literal(&Ty::Str, depth)?]),
                (Ty::Num, 1) => Kind::Call("number", vec![*self.no_literal(&Ty::Str, depth)?]),
                (Ty::Time, 1) => Kind::Call("timestamp", vec![*self.no_literal(&Ty::Str, depth)?]),
                (Ty::Dur, 1) => Kind::Call("duration", vec![*self.no_literal(&Ty::Str, depth)?]),
                (Ty::Int, 2) => Kind::Index(
                    self.no_literal(&Ty::Map(Box::new(Ty::Int)), 0)?,
                    self.must(&Ty::Str, depth)?,
                ),
                (Ty::Str, 2) => Kind::Index(
                    self.no_literal(&Ty::Map(Box::new(Ty::Str.opt())), 0)?,
                    self.must(&Ty::Str, depth)?,
                ),
                (Ty::Named("Line"), 2) => Kind::Index(
                    self.no_literal(&Ty::Map(Box::new(Ty::Named("Line"))), 0)?,
                    self.must(&Ty::Str, depth)?,
                ),
                _ => {
                    let element =
                        if self.random.chance(50) { (**inner).clone() } else { ty.clone() };
                    Kind::Index(
                        self.no_literal(&Ty::list(element), depth)?,
                        self.must(&Ty::Int, depth)?,
                    )
                }
            },
            _ => return None,
        };
        let made = Ex::new(ty.clone(), kind);
        // A constant that cannot be computed is an error.
        (!is_constant(&made) || Eval::new(&Nothing).value(&made).is_ok()).then_some(made)
    }

    /// A value for a place of that type, which it need only fit.
    pub fn sink(&mut self, ty: &Ty, depth: usize) -> Option<Sink> {
        let part_of_line = *ty == Ty::Named("Part") && self.random.chance(40);
        let narrower = match ty {
            Ty::Opt(_) if self.random.chance(15) => {
                return Some(Sink::Ex(Ex::new(ty.clone(), Kind::Null)));
            }
            Ty::Opt(of) if self.random.chance(40) => return self.sink(of, depth),
            Ty::Num if self.random.chance(25) => Ty::Int,
            Ty::Json if self.random.chance(70) => {
                let all: Vec<Ty> =
                    self.readable().into_iter().map(|ex| ex.ty).filter(|ty| !ty.is_opt()).collect();
                let ty = self.random.pick(&all).clone();
                // What is written out takes the type of its place: a null is of `json?`, an element
                // separate JSON.
                let made = self.exact(&ty, depth).filter(|ex| !is_shaped_by_its_place(ex));
                return made.or_else(|| self.read(&ty)).map(Sink::Ex);
            }
            Ty::Named("Shade") => Ty::Named("Colour"),
            Ty::Named("Part") if part_of_line => Ty::Named("Line"),
            Ty::List(of) if **of == Ty::Num && self.random.chance(30) => Ty::list(Ty::Int),
            Ty::List(of) if matches!(&**of, Ty::Opt(_)) && self.random.chance(30) => {
                Ty::list(of.present().clone())
            }
            Ty::List(of) if self.random.chance(30) => {
                let count = self.random.below(3);
                return (0..count)
                    .map(|_| self.sink(of, depth))
                    .collect::<Option<Vec<_>>>()
                    .map(Sink::List);
            }
            Ty::Map(of) if self.random.chance(50) => {
                let keys = ["a", "b c", "type"];
                let count = self.random.below(3);
                let entries = keys
                    .iter()
                    .take(count)
                    .map(|key| Some(((*key).to_owned(), self.sink(of, depth)?)));
                return entries.collect::<Option<Vec<_>>>().map(Sink::Map);
            }
            Ty::With(at) => {
                let detail = detail(*at);
                if detail.default.is_some()
                    && !detail.text.contains("$min")
                    && self.random.chance(70)
                {
                    return self.sink(&detail.of, depth);
                }
                let value = self.random.pick(&detail.values).clone();
                return written(value, &detail.of);
            }
            Ty::Named("Line" | "Part") if self.random.chance(20) => {
                let fields = fields_of(ty)
                    .into_iter()
                    .map(|(name, ty)| Some((name, self.sink(&ty, depth.min(1))?)));
                return fields.collect::<Option<Vec<_>>>().map(Sink::Rec);
            }
            Ty::Str if self.random.chance(30) => return self.text(depth).map(Sink::Text),
            named if is_enum(named) && self.random.chance(30) => {
                return Some(Sink::Ex(self.word(ty)));
            }
            _ => ty.clone(),
        };
        self.exact(&narrower, depth).or_else(|| self.exact(ty, depth)).map(Sink::Ex)
    }

    /// A text that is another one for each instance, and in a loop for each element where that has
    /// a text.
    pub fn key(&mut self) -> Option<Vec<Ex>> {
        let mut parts = vec![root(Root::InstanceId, Ty::Str)];
        let items = self.scope.items.iter().filter(|(_, ty)| has_text(ty));
        parts.extend(items.map(|(name, ty)| root(Root::Item(name.clone()), ty.clone())));
        parts.extend(self.text(1)?);
        Some(parts)
    }

    /// A text with expressions in it.
    pub fn text(&mut self, depth: usize) -> Option<Vec<Ex>> {
        let plain = |text: &str| Ex::new(Ty::Str, Kind::Lit(Val::Str(text.to_owned())));
        let mut parts = vec![plain(self.random.one_of(&["of ", "{ ", "\"", "Zoë } "]))];
        for _ in 0..1 + self.random.below(2) {
            let ty = self.some_type();
            let part = self.exact(&ty, depth)?;
            // A string that is written out would be text like any other.
            if part.ty != Ty::Str || !part.is_literal() {
                parts.push(part);
                parts.push(plain(self.random.one_of(&[" and ", "}", "; "])));
            }
        }
        Some(parts)
    }
}

fn is_of_input(ex: &Ex) -> bool {
    match &ex.kind {
        Kind::Root(root) => {
            !matches!(root, Root::Step(_) | Root::Item(_) | Root::Event | Root::Error)
        }
        Kind::Field(of, _) => is_of_input(of),
        _ => false,
    }
}

/// Whether a literal or a list in it stands where the type of the whole expression says which type
/// it has.
fn is_shaped_by_its_place(ex: &Ex) -> bool {
    match &ex.kind {
        Kind::Null | Kind::List(_) | Kind::Lit(Val::Word(_)) => true,
        Kind::If(_, left, right) | Kind::Coalesce(left, right) | Kind::Bin("+", left, right) => {
            is_shaped_by_its_place(left) || is_shaped_by_its_place(right)
        }
        _ => false,
    }
}

/// A constant as it is written in a place of its type.
fn written(value: Val, ty: &Ty) -> Option<Sink> {
    Some(match (value, ty) {
        (Val::List(items), Ty::List(of)) => {
            Sink::List(items.into_iter().map(|item| written(item, of)).collect::<Option<_>>()?)
        }
        (Val::Map(entries), Ty::Map(of)) => Sink::Map(
            entries
                .into_iter()
                .map(|(key, value)| Some((key, written(value, of)?)))
                .collect::<Option<_>>()?,
        ),
        (value, ty) => Sink::Ex(Ex::new(ty.clone(), Kind::Lit(value))),
    })
}

/// A constant divisor of zero: what always fails is an error.
fn is_zero(divisor: &Ex) -> bool {
    let value = is_constant(divisor).then(|| Eval::new(&Nothing).value(divisor));
    matches!(value, Some(Ok(Val::Int(0) | Val::Num(0.0))))
}

/// Whether it reads nothing at all.
fn is_constant(ex: &Ex) -> bool {
    match &ex.kind {
        Kind::Lit(_) | Kind::Null => true,
        Kind::Root(_) | Kind::Call("now", _) => false,
        Kind::List(items) | Kind::Call(_, items) => items.iter().all(is_constant),
        Kind::Field(of, _) | Kind::Not(of) | Kind::Neg(of) => is_constant(of),
        Kind::Index(left, right)
        | Kind::Bin(_, left, right)
        | Kind::Coalesce(left, right)
        | Kind::Iter(_, left, _, right) => is_constant(left) && is_constant(right),
        Kind::If(condition, then, other) => {
            is_constant(condition) && is_constant(then) && is_constant(other)
        }
        Kind::Method(_, of, args) => is_constant(of) && args.iter().all(is_constant),
    }
}

/// Nothing to read.
struct Nothing;

impl Reads for Nothing {
    fn root(&self, _: &Root) -> Val {
        Val::Null
    }

    fn now(&self) -> i64 {
        0
    }
}
