//! How generated code names types, as seen from one of its modules; and what a module imports for
//! that.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use super::names::{IMPORTED, bare, declared_type, ident};
use super::plan::{Key, Plan, ScopeId, ScopeKind};
use crate::ir::{Contract, Type, TypeName};
use crate::names;

/// A module of the generated file: `types`, `events`, `steps::<step type>`, a workflow's, or the
/// root (empty).
#[derive(Debug, Clone, Copy)]
pub(super) struct Module<'a>(pub(super) &'a str);

impl Module<'_> {
    /// `super`, or `super::super`, or nothing.
    fn root(self) -> TokenStream {
        match (self.0, self.0.contains("::")) {
            ("", _) => quote!(),
            (_, false) => quote!(super::),
            (_, true) => quote!(super::super::),
        }
    }

    /// Whether it is a workflow's: those import the step types that they use.
    fn is_workflow(self) -> bool {
        !matches!(self.0, "" | "types" | "events") && !self.0.contains("::")
    }

    /// The path of a step type's module.
    pub(super) fn contract(self, step_type: &str) -> TokenStream {
        let module = ident(&names::module(step_type));
        if self.is_workflow() && is_importable(&names::module(step_type)) {
            quote!(#module)
        } else {
            quote!(steps::#module)
        }
    }

    pub(super) fn path(self, name: &TypeName) -> TokenStream {
        let own = ident(&declared_type(&name.name));
        if name.module == self.0 {
            return quote!(#own);
        }
        let module = module_path(&name.module);
        match (self.0.split_once("::"), name.module.split_once("::")) {
            // Another step type's, seen from a step type.
            (Some(_), Some((_, step))) => {
                let step = ident(&names::module(step));
                quote!(super::#step::#own)
            }
            (None, Some((_, step))) => {
                let step = self.contract(step);
                quote!(#step::#own)
            }
            _ if is_imported(&name.module) => quote!(#module::#own),
            _ => {
                let root = self.root();
                quote!(#root #module::#own)
            }
        }
    }

    pub(super) fn ty(self, ty: &Type) -> TokenStream {
        match ty {
            Type::String => quote!(String),
            Type::Integer => quote!(i64),
            Type::Number => quote!(f64),
            Type::Boolean => quote!(bool),
            Type::Timestamp => quote!(Timestamp),
            Type::Duration => quote!(Duration),
            Type::Json => quote!(Json),
            Type::List(of) => {
                let of = self.ty(of);
                quote!(Vec<#of>)
            }
            Type::Map(of) => {
                let of = self.ty(of);
                quote!(IndexMap<String, #of>)
            }
            Type::Optional(of) => {
                let of = self.ty(of);
                quote!(Option<#of>)
            }
            Type::Record(record) => self.path(&record.name),
            Type::Enum(of) => self.path(&of.name),
            Type::Error => quote!(Failure),
        }
    }

    /// The paths that `tokens`, being the module's items, need to import, in a folder with these
    /// step types. `flows`: whether any of them goes on from a flow.
    pub(super) fn imports(
        self,
        tokens: TokenStream,
        contracts: &[Contract],
        flows: bool,
    ) -> Vec<TokenStream> {
        let (mut used, mut prefixes, mut declared) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        scan(tokens, &mut used, &mut prefixes, &mut declared);
        used.retain(|name| !declared.contains(name));
        let mut paths = Vec::new();
        if used.contains("Arc") {
            paths.push(quote!(::std::sync::Arc));
        }
        if flows {
            used.insert("Then".into());
        }
        let machine: Vec<_> = IMPORTED
            .iter()
            .filter(|name| used.contains(**name) && !OTHERS.contains(name))
            .map(|name| ident(name))
            .collect();
        let itself = prefixes.contains("machine").then(|| quote!(self,));
        match (itself, machine.as_slice()) {
            (None, []) => {}
            (None, [only]) => paths.push(quote!(::crux_runtime::machine::#only)),
            (Some(_), []) => paths.push(quote!(::crux_runtime::machine)),
            (itself, all) => paths.push(quote!(::crux_runtime::machine::{#itself #(#all),*})),
        }
        let siblings: Vec<_> = ["events", "routes", "steps", "types"]
            .into_iter()
            .filter(|name| prefixes.contains(*name) && *name != self.0)
            .map(ident)
            .collect();
        let root = self.root();
        let steps: Vec<_> = contracts
            .iter()
            .map(|contract| names::module(&contract.name))
            .filter(|module| {
                self.is_workflow() && is_importable(module) && prefixes.contains(module)
            })
            .map(|module| ident(&module))
            .collect();
        match steps.as_slice() {
            [] => {}
            [only] => paths.push(quote!(#root steps::#only)),
            all => paths.push(quote!(#root steps::{#(#all),*})),
        }
        match (root.is_empty(), siblings.as_slice()) {
            (true, _) | (_, []) => {}
            (_, [only]) => paths.push(quote!(#root #only)),
            (_, all) => paths.push(quote!(#root {#(#all),*})),
        }
        paths
    }
}

/// Imported from elsewhere than the machine, or never.
const OTHERS: &[&str] = &["Arc", "Fx"];

/// Whether a step type's module can be called by its name alone: not where that is the name of
/// another module, or a type of Rust's.
fn is_importable(step_type: &str) -> bool {
    const TAKEN: &[&str] = &[
        "alloc",
        "bool",
        "char",
        "core",
        "crux_runtime",
        "events",
        "f32",
        "f64",
        "i8",
        "i16",
        "i32",
        "i64",
        "i128",
        "isize",
        "machine",
        "node",
        "routes",
        "std",
        "steps",
        "str",
        "types",
        "u8",
        "u16",
        "u32",
        "u64",
        "u128",
        "usize",
    ];
    !TAKEN.contains(&bare(step_type))
}

fn is_imported(module: &str) -> bool {
    matches!(module, "types" | "events") || module.starts_with("steps::")
}

/// `steps::order` as a path.
pub(super) fn module_path(module: &str) -> TokenStream {
    let parts = module.split("::").map(|part| ident(&names::module(part)));
    quote!(#(#parts)::*)
}

/// Which names stand alone, which stand before `::`, and which types are declared here. The
/// variants of an enum are none of them.
fn scan(
    tokens: TokenStream,
    used: &mut BTreeSet<String>,
    prefixes: &mut BTreeSet<String>,
    declared: &mut BTreeSet<String>,
) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let keyword =
        |at: usize, back: usize| match at.checked_sub(back).and_then(|before| trees.get(before)) {
            Some(TokenTree::Ident(word)) => word.to_string(),
            _ => String::new(),
        };
    let is_colon = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let mut path_before = false;
    for (at, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Group(group) if keyword(at, 2) == "enum" => {
                scan(without_variants(group.stream()), used, prefixes, declared);
            }
            TokenTree::Group(group) => scan(group.stream(), used, prefixes, declared),
            TokenTree::Ident(name) if !path_before => {
                let name = name.to_string();
                if matches!(keyword(at, 1).as_str(), "enum" | "struct" | "type") {
                    declared.insert(name.clone());
                }
                if is_colon(trees.get(at + 1)) && is_colon(trees.get(at + 2)) {
                    prefixes.insert(name.clone());
                }
                used.insert(name);
            }
            _ => {}
        }
        path_before = is_colon(Some(tree)) && at > 0 && is_colon(trees.get(at - 1));
    }
}

/// The body of an enum but for the names of its variants.
fn without_variants(body: TokenStream) -> TokenStream {
    body.into_iter().filter(|tree| !matches!(tree, TokenTree::Ident(_))).collect()
}

/// The type of a value among live values.
pub(super) fn live_type(
    plan: &Plan<'_>,
    module: Module<'_>,
    key: Key<'_>,
    optional: bool,
) -> TokenStream {
    let ty = result_type(plan, module, key);
    if optional { quote!(Option<Arc<#ty>>) } else { quote!(Arc<#ty>) }
}

pub(super) fn result_type(plan: &Plan<'_>, module: Module<'_>, key: Key<'_>) -> TokenStream {
    match key {
        Key::Input => module.path(&plan.workflow.input.name),
        Key::Step(..) => match plan.owner(key).and_then(|step| step.node.result.as_ref()) {
            Some(ty) => module.ty(ty.present()),
            None => quote!(()),
        },
    }
}

/// The type of an element variable, where it is read in `scope`.
pub(super) fn item<'a>(plan: &Plan<'a>, name: &str, scope: ScopeId) -> Option<&'a Type> {
    let mut next = Some(scope);
    while let Some(id) = next {
        match plan.scopes[id].kind {
            ScopeKind::Each { item, item_type, .. } if item == name => return Some(item_type),
            _ => next = plan.scopes[id].around.map(|step| plan.steps[step].scope),
        }
    }
    None
}

pub(super) fn item_type(
    plan: &Plan<'_>,
    module: Module<'_>,
    name: &str,
    scope: ScopeId,
) -> TokenStream {
    module.ty(item(plan, name, scope).unwrap_or(&Type::Json))
}
