//! The module of one version of a workflow, from top to bottom: its types, the machine, the root
//! scope with its steps, undo, triggers, tables.

use proc_macro2::TokenStream;
use quote::quote;

use super::body::{Body, Reads, used};
use super::names::{Names, ident};
use super::paths::Module;
use super::plan::{Key, Plan, Step};
use super::text::Items;
use super::tokens::Variant;
use super::types::SeenBy;
use super::{table, trigger, types};
use crate::ir::{Program, Undo, Verb, Workflow};

/// What writes a workflow.
pub(super) struct Generator<'g, 'a> {
    pub(super) plan: &'g Plan<'a>,
    pub(super) module: Module<'g>,
}

/// The items of a workflow's module, its imports first.
pub(super) fn items(workflow: &Workflow, program: &Program) -> Items {
    let module = Module(&workflow.module);
    let own: Vec<_> =
        program.types.iter().filter(|def| def.name.module == workflow.module).collect();
    let fixed = ["Workflow", "Fx", "Undo"];
    let mut names = Names::new(own.iter().map(|def| def.name.name.as_str()).chain(fixed));
    let plan = Plan::new(workflow, &mut names);
    let generator = Generator { plan: &plan, module };
    let mut items = Items::new();
    for def in own {
        items.push(types::item(def, module, SeenBy::People));
    }
    generator.scope(0, &mut items);
    items.push(generator.undo());
    items.append(trigger::items(workflow, program, module));
    items.append(table::items(workflow, program, &plan, module));
    let mut with_imports = Items::new();
    let flows = plan.steps.iter().any(|step| {
        !matches!(step.node.verb, Verb::Fail { .. })
            || step.catches.iter().flatten().any(|scope| !plan.is_failure(*scope))
    });
    with_imports.uses(module.imports(items.tokens(), &program.contracts, flows));
    with_imports.append(items);
    with_imports
}

impl<'a> Generator<'_, 'a> {
    /// The path of a step type's module.
    pub(super) fn contract(&self, name: &str) -> TokenStream {
        self.module.contract(name)
    }

    fn undo_steps(&self) -> impl Iterator<Item = (&Step<'a>, &'a Undo)> {
        self.plan
            .steps
            .iter()
            .filter_map(|step| Some((step, super::plan::task(step.node)?.undo.as_ref()?)))
    }

    pub(super) fn machine(&self, variants: &[Variant]) -> TokenStream {
        let root = self.plan.root();
        let (state, out) = (ident(&root.name), self.out(0));
        let arms = self.arms(&state, variants);
        let (flow, flow_alias) = (self.flow(0), self.flow_alias(0));
        let undo = if self.undo_steps().next().is_some() { quote!(Undo) } else { quote!(NoUndo) };
        let output = self.plan.workflow.output.is_none().then(|| {
            quote!(
                /// It has no output.
                pub type Output = ();
            )
        });
        let input = self.module.path(&self.plan.workflow.input.name);
        let start = match root
            .sequences
            .first()
            .and_then(|steps| steps.first())
            .map(|first| &self.plan.steps[*first])
        {
            Some(first) => {
                let (enter, at) =
                    (quote::format_ident!("enter_{}", first.snake), ident(&first.at_name));
                if first.live.contains(&Key::Input) {
                    let start = quote!(let input = Arc::new(input); #enter(#at { input }, fx));
                    Body::new(start, Reads::INPUT | Reads::FX)
                } else {
                    Body::new(quote!(#enter(fx)), Reads::FX)
                }
            }
            // The language wants a step.
            None => Body::constant(quote!(Flow::Done(()))),
        };
        let (input_param, start_fx) = (start.param(Reads::INPUT), start.param(Reads::FX));
        let (event, fx) = (arms.param(Reads::EVENT), arms.param(Reads::FX));
        quote! {
            #output

            type Fx<'a> = machine::Fx<'a, #undo>;
            #flow_alias

            /// The machine of this workflow.
            pub enum Workflow {}

            impl Machine for Workflow {
                const DEFINITION: &'static Definition = &DEFINITION;
                type Input = #input;
                type State = #state;
                type Output = Output;
                type Undo = #undo;

                fn start(#input_param: #input, #start_fx: &mut Fx<'_>) -> #flow {
                    #start
                }

                fn apply(state: #state, #event: &StepEvent, #fx: &mut Fx<'_>) -> Applied<#state, #out> {
                    #arms
                }
            }
        }
    }

    /// The enum of undo values, and what each is made of.
    fn undo(&self) -> TokenStream {
        let steps: Vec<_> = self.undo_steps().collect();
        if steps.is_empty() {
            return TokenStream::new();
        }
        let (mut variants, mut completed, mut inputs, mut items) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (step, undo) in steps {
            let written = super::undo::items(self, step, undo);
            variants.push(written.variant);
            completed.extend(written.completed);
            inputs.push(written.input);
            items.push(written.items);
        }
        let reads = Body::reads_of(&inputs);
        let (env, now) = (reads.param(Reads::ENV), reads.param(Reads::NOW));
        let raw = used(!completed.is_empty(), &ident("result"));
        let other =
            (completed.len() < variants.len() && !completed.is_empty()).then(|| quote!(_ => {}));
        let completed = if completed.is_empty() {
            quote!()
        } else {
            quote!(match self { #(#completed,)* #other })
        };
        quote! {
            /// What undoes the steps that have been done, newest first.
            pub enum Undo {
                #(#variants),*
            }

            impl machine::Undo for Undo {
                fn completed(&mut self, #raw: &RawValue) {
                    #completed
                }

                fn input(&self, #env: &Env, #now: Time) -> (u16, Result<Arc<RawValue>, Failure>) {
                    match self { #(#inputs),* }
                }
            }

            #(#items)*
        }
    }
}
