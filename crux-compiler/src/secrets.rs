//! Which values are secret, and which parts of them: fields with `$secret`, and whatever is made of
//! one. Secrecy goes with a value through expressions, items, records and the results of steps. An
//! answer by yes or no, and a length, tell too little to count.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use crate::ir::{
    Contract, Expr, ExprKind, Function, Iterate, Node, Op, Record, Type, TypeName, Value, Verb,
    Workflow,
};

/// What of a value is secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Secrecy {
    #[default]
    Open,
    Secret,
    /// Of a record: its fields of which something is secret.
    Fields(BTreeMap<String, Secrecy>),
    /// Of each element of a list or value of a map.
    Elements(Box<Secrecy>),
}

/// What the steps and items around an expression are, where it is more than their types say.
#[derive(Debug, Clone, Default)]
pub struct SecrecyScope {
    /// Results, by the step's id.
    pub steps: BTreeMap<String, Secrecy>,
    /// Innermost last.
    pub items: Vec<(String, Secrecy)>,
}

impl Secrecy {
    /// Whether anything of it is secret.
    pub fn any(&self) -> bool {
        *self != Self::Open
    }

    /// As its type says.
    pub fn of_type(ty: &Type) -> Self {
        of_type(ty, &mut HashMap::new())
    }

    pub fn of_record(record: &Record) -> Self {
        of_fields(record, &mut HashMap::new())
    }

    /// Whether something is secret here that is not there.
    pub fn exceeds(&self, declared: &Self) -> bool {
        match (self, declared) {
            (Self::Open, _) | (_, Self::Secret) => false,
            (Self::Fields(fields), Self::Fields(known)) => fields
                .iter()
                .any(|(name, field)| field.exceeds(known.get(name).unwrap_or(&Self::Open))),
            (Self::Elements(element), Self::Elements(known)) => element.exceeds(known),
            _ => true,
        }
    }

    pub fn field(&self, name: &str) -> Self {
        match self {
            Self::Secret => Self::Secret,
            Self::Fields(fields) => fields.get(name).cloned().unwrap_or_default(),
            // Of json, which may be either.
            Self::Elements(element) => (**element).clone(),
            Self::Open => Self::Open,
        }
    }

    pub fn element(&self) -> Self {
        match self {
            Self::Elements(element) => (**element).clone(),
            Self::Fields(fields) => fields.values().cloned().fold(Self::Open, Self::and),
            whole => whole.clone(),
        }
    }

    fn fields(fields: impl Iterator<Item = (String, Self)>) -> Self {
        let fields: BTreeMap<String, Self> = fields.filter(|(_, secrecy)| secrecy.any()).collect();
        if fields.is_empty() { Self::Open } else { Self::Fields(fields) }
    }

    pub fn elements(element: Self) -> Self {
        if element.any() { Self::Elements(Box::new(element)) } else { Self::Open }
    }

    /// What is secret in one or the other.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, other) | (other, Self::Open) => other,
            (Self::Fields(mut fields), Self::Fields(others)) => {
                for (name, other) in others {
                    let field = fields.remove(&name).unwrap_or_default();
                    fields.insert(name, field.and(other));
                }
                Self::Fields(fields)
            }
            (Self::Elements(element), Self::Elements(other)) => {
                Self::Elements(Box::new(element.and(*other)))
            }
            _ => Self::Secret,
        }
    }

    /// As a whole, if anything is.
    fn whole(self) -> Self {
        if self.any() { Self::Secret } else { Self::Open }
    }

    /// The paths of what is secret: `card.number`, `lines.*.token`; of the whole value `""`.
    fn paths(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.write_paths("", &mut all);
        all
    }

    fn write_paths(&self, path: &str, all: &mut Vec<String>) {
        let inner =
            |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
        match self {
            Self::Open => {}
            Self::Secret => all.push(path.to_owned()),
            Self::Fields(fields) => {
                fields.iter().for_each(|(name, field)| field.write_paths(&inner(name), all))
            }
            Self::Elements(element) => element.write_paths(&inner("*"), all),
        }
    }
}

/// Types are shared, so that each record is visited once.
type Looked = HashMap<TypeName, Secrecy>;

fn of_type(ty: &Type, looked: &mut Looked) -> Secrecy {
    match ty {
        Type::Optional(of) => of_type(of, looked),
        Type::List(of) | Type::Map(of) => Secrecy::elements(of_type(of, looked)),
        Type::Record(record) => of_fields(record, looked),
        Type::String
        | Type::Integer
        | Type::Number
        | Type::Boolean
        | Type::Timestamp
        | Type::Duration
        | Type::Json
        | Type::Enum(_)
        | Type::Error => Secrecy::Open,
    }
}

fn of_fields(record: &Record, looked: &mut Looked) -> Secrecy {
    if let Some(known) = looked.get(&record.name) {
        return known.clone();
    }
    let fields = record.fields.iter();
    let fields = fields.map(|field| {
        (
            field.name.clone(),
            if field.secret { Secrecy::Secret } else { of_type(&field.ty, looked) },
        )
    });
    let secrecy = Secrecy::fields(fields.collect::<Vec<_>>().into_iter());
    looked.insert(record.name.clone(), secrecy.clone());
    secrecy
}

/// What of an expression's value is secret.
pub fn of(expr: &Expr, known: &SecrecyScope) -> Secrecy {
    Reader { known, items: known.items.clone() }.expr(expr)
}

struct Reader<'a> {
    known: &'a SecrecyScope,
    items: Vec<(String, Secrecy)>,
}

impl Reader<'_> {
    fn any(&mut self, parts: &[Expr]) -> Secrecy {
        parts.iter().map(|part| self.expr(part)).fold(Secrecy::Open, Secrecy::and).whole()
    }

    fn expr(&mut self, expr: &Expr) -> Secrecy {
        match &expr.kind {
            ExprKind::Text(_)
            | ExprKind::Integer(_)
            | ExprKind::Number(_)
            | ExprKind::Boolean(_)
            | ExprKind::Timestamp(_)
            | ExprKind::Duration { .. }
            | ExprKind::Null
            | ExprKind::Word(_) => Secrecy::Open,
            ExprKind::List(items) => {
                let element =
                    items.iter().map(|item| self.expr(item)).fold(Secrecy::Open, Secrecy::and);
                Secrecy::elements(element)
            }
            ExprKind::Record(fields) => {
                let declared = Secrecy::of_type(&expr.ty);
                let built: Vec<(String, Secrecy)> =
                    fields.iter().map(|(name, field)| (name.clone(), self.expr(field))).collect();
                match expr.ty.present() {
                    Type::Record(_) => Secrecy::fields(built.into_iter()).and(declared),
                    // A map; its keys are written in the pipeline.
                    _ => Secrecy::fields(built.into_iter()),
                }
            }
            ExprKind::Value(value) => self.value(value, &expr.ty),
            ExprKind::Field { of, name, .. } => self.expr(of).field(name),
            ExprKind::Index { of, index } => {
                let by = self.expr(index).whole();
                self.expr(of).element().and(by)
            }
            ExprKind::Not(of) | ExprKind::Negate(of) => self.expr(of).whole(),
            ExprKind::Binary { op, left, right } => match op {
                Op::Equal
                | Op::NotEqual
                | Op::Less
                | Op::LessEqual
                | Op::Greater
                | Op::GreaterEqual
                | Op::In => Secrecy::Open,
                Op::Add if matches!(expr.ty, Type::List(_)) => {
                    self.expr(left).and(self.expr(right))
                }
                _ => self.expr(left).and(self.expr(right)).whole(),
            },
            ExprKind::Coalesce { left, right } => self.expr(left).and(self.expr(right)),
            ExprKind::If { then, other, .. } => self.expr(then).and(self.expr(other)),
            ExprKind::Call { function, args } => match function {
                Function::Size
                | Function::Has
                | Function::Contains
                | Function::StartsWith
                | Function::EndsWith => Secrecy::Open,
                _ => self.any(args),
            },
            ExprKind::Iterate { how, over, variable, body } => {
                let over = self.expr(over);
                match how {
                    Iterate::Map => {
                        self.items.push((variable.clone(), over.element()));
                        let element = self.expr(body);
                        self.items.pop();
                        Secrecy::elements(element)
                    }
                    Iterate::Filter => over,
                    Iterate::All | Iterate::Exists => Secrecy::Open,
                }
            }
            ExprKind::Interpolate(parts) => self.any(parts),
            ExprKind::Coerce(inner) => {
                let inner = self.expr(inner);
                let declared = Secrecy::of_type(&expr.ty);
                match (inner, expr.ty.present()) {
                    // What the other record does not have is left out.
                    (Secrecy::Fields(fields), Type::Record(record)) => {
                        let is_kept =
                            |name: &String| record.fields.iter().any(|field| field.name == *name);
                        Secrecy::fields(fields.into_iter().filter(|(name, _)| is_kept(name)))
                            .and(declared)
                    }
                    (inner, _) => inner.and(declared),
                }
            }
        }
    }

    fn value(&self, value: &Value, ty: &Type) -> Secrecy {
        match value {
            Value::Step(id) => {
                self.known.steps.get(id).cloned().unwrap_or_else(|| Secrecy::of_type(ty))
            }
            Value::Item(name) => {
                let item = self.items.iter().rev().find(|(item, _)| item == name);
                item.map_or_else(|| Secrecy::of_type(ty), |(_, secrecy)| secrecy.clone())
            }
            Value::Input | Value::Event | Value::TriggerEvent => Secrecy::of_type(ty),
            Value::Error
            | Value::InstanceId
            | Value::RequestId
            | Value::StartedAt
            | Value::Config(_)
            | Value::Now => Secrecy::Open,
        }
    }
}

/// The secret places of a workflow, for the definition's document: of its input and output, and by
/// step of its result and of what its task takes. `None` if there are none.
pub fn document(workflow: &Workflow, contracts: &[Contract]) -> Option<Json> {
    let mut places = Places {
        contracts,
        known: SecrecyScope::default(),
        results: serde_json::Map::new(),
        inputs: serde_json::Map::new(),
    };
    places.nodes(&workflow.steps);
    let input = Secrecy::of_record(&workflow.input).paths();
    let output = workflow
        .output
        .as_ref()
        .map(|output| of(output, &places.known).paths())
        .unwrap_or_default();
    let Places { results, inputs, .. } = places;
    let is_open = input.is_empty() && output.is_empty() && results.is_empty() && inputs.is_empty();
    (!is_open)
        .then(|| json!({ "input": input, "output": output, "results": results, "inputs": inputs }))
}

struct Places<'a> {
    contracts: &'a [Contract],
    known: SecrecyScope,
    results: serde_json::Map<String, Json>,
    inputs: serde_json::Map<String, Json>,
}

impl Places<'_> {
    fn nodes(&mut self, nodes: &[Node]) {
        nodes.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &Node) {
        match &node.verb {
            Verb::Task(task) => {
                self.task(&node.path, &task.contract, &task.with);
                if let Some(undo) = &task.undo {
                    self.task(&format!("{}/undo", node.path), &undo.contract, &undo.with);
                }
            }
            Verb::TaskThen { task, steps } => {
                self.node(task);
                self.nodes(steps);
            }
            Verb::Group { steps, .. } | Verb::Repeat { steps, .. } => self.nodes(steps),
            Verb::Parallel { branches, .. } => {
                branches.iter().for_each(|branch| self.nodes(&branch.steps))
            }
            Verb::Switch { branches } => branches.iter().for_each(|case| self.nodes(&case.steps)),
            Verb::Each { item, list, steps, yields, .. } => {
                let element = of(list, &self.known).element();
                self.known.items.push((item.clone(), element));
                self.nodes(steps);
                let yielded =
                    yields.as_ref().map(|yields| Secrecy::elements(of(yields, &self.known)));
                self.known.items.pop();
                if let Some(yielded) = yielded.filter(Secrecy::any) {
                    self.known.steps.insert(node.id.clone(), yielded);
                }
            }
            Verb::Wait { event_type, .. } => {
                note(&mut self.results, &node.path, &Secrecy::of_record(event_type))
            }
            Verb::Sleep(_) | Verb::Emit { .. } | Verb::Fail { .. } => {}
        }
        node.catch.iter().for_each(|catch| self.nodes(&catch.steps));
    }

    fn task(&mut self, path: &str, contract: &str, with: &Expr) {
        let given = of(with, &self.known);
        note(&mut self.inputs, path, &given);
        let returns = self
            .contracts
            .iter()
            .find(|other| other.name == contract)
            .and_then(|contract| contract.returns.as_ref());
        if let Some(returns) = returns {
            note(&mut self.results, path, &Secrecy::of_record(returns));
        }
    }
}

fn note(places: &mut serde_json::Map<String, Json>, path: &str, secrecy: &Secrecy) {
    if secrecy.any() {
        places.insert(path.to_owned(), json!(secrecy.paths()));
    }
}
