//! What a step means for those who read it later: there, perhaps there, or out of reach. Each place
//! each verb that divides the flow says here whether the steps inside are certain.

use super::walk::Walk;
use crate::model::Step;
use crate::resolve::uses::{branches, each_step};
use crate::typing::Standing;

impl<'a> Walk<'_, 'a> {
    /// The ids of all steps in a list, at any depth.
    pub fn ids_in(&self, steps: &'a [Step]) -> Vec<String> {
        let mut ids = Vec::new();
        each_step(steps, &mut |step| ids.push(self.id(step)));
        ids
    }

    /// Gives all of them a standing, and returns what they had.
    pub fn set_all(&mut self, ids: &[String], standing: &Standing) -> Vec<(String, Standing)> {
        let mut before = Vec::new();
        for id in ids {
            before.extend(self.scope.standing(id).map(|standing| (id.clone(), standing.clone())));
            self.scope.set_standing(id, standing.clone());
        }
        before
    }

    pub fn restore(&mut self, before: Vec<(String, Standing)>) {
        for (id, standing) in before {
            self.scope.set_standing(&id, standing);
        }
    }

    /// What was certain inside is no longer certain for those who come after; `why` is given for
    /// each.
    pub fn perhaps(&mut self, ids: &[String], why: impl Fn(&str) -> String) {
        for id in ids {
            if self.scope.standing(id) == Some(&Standing::Certain) {
                self.scope.set_standing(id, Standing::Maybe(why(id)));
            }
        }
    }

    /// Inside the handlers of a step it has failed, and what stands in it may not have run. Returns
    /// what to restore.
    pub fn fail_for_handlers(&mut self, step: &'a Step, id: &str) -> Vec<(String, Standing)> {
        let mut before = self.set_all(&[id.to_owned()], &Standing::Failed);
        for list in branches(&step.verb) {
            for inner in self.ids_in(list) {
                if let Some(Standing::Certain) = self.scope.standing(&inner) {
                    before.extend(self.set_all(
                        std::slice::from_ref(&inner),
                        &Standing::Maybe(format!(
                            "`{id}` has failed here: `{inner}` may not have run"
                        )),
                    ));
                }
            }
        }
        before
    }

    /// The standing of a step, and of all inside, once it is behind the reader.
    pub fn settle(&mut self, step: &'a Step, id: &str) {
        let caught = step.catch.as_ref().is_some_and(|catch| !catch.is_empty());
        let skipped = step.when.is_some();
        let standing = match (skipped, caught) {
            (false, false) => Standing::Certain,
            (true, _) => Standing::Maybe(format!("`{id}` has a `when`: it may be skipped")),
            (false, true) => Standing::Maybe(format!("`{id}` has a `catch`: it may have failed")),
        };
        self.scope.set_standing(id, standing);
        let mut inside = Vec::new();
        for list in branches(&step.verb) {
            inside.extend(self.ids_in(list));
        }
        if skipped {
            self.perhaps(&inside, |inner| format!("`{inner}` is in `{id}`, which has a `when`"));
        } else if caught {
            self.perhaps(&inside, |inner| format!("`{inner}` is in `{id}`, which has a `catch`"));
        }
        for catch in step.catch.iter().flatten() {
            let handlers = self.ids_in(&catch.steps);
            self.perhaps(&handlers, |inner| format!("`{inner}` is in the `catch` of `{id}`"));
        }
    }
}
