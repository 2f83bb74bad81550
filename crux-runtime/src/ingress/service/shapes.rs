//! The shapes of definitions, by hash: of this binary's own from the beginning, of others once they
//! were needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::App;
use crate::engine::Engine;
use crate::ingress::problem::{Kind, Problem};
use crate::view::document::Shape;

/// Cached shapes of other binaries' definitions; beyond it they are computed again.
const CACHED_SHAPES_MAX: usize = 256;

pub(crate) struct Shapes {
    own: HashMap<&'static str, Arc<Shape>>,
    others: Mutex<HashMap<String, Arc<Shape>>>,
}

impl Shapes {
    /// A definition of this binary that cannot be read is as if it had no steps: the compiler's
    /// tests see to it that there is none.
    pub(crate) fn new(app: &App) -> Self {
        let own = app.workflows.iter().map(|workflow| workflow.definition).map(|definition| {
            let shape = Shape::new(definition.document, Some(definition)).unwrap_or_else(|error| {
                tracing::error!(workflow = definition.workflow, %error, "the definition's document cannot be read");
                Shape::default()
            });
            (definition.hash, Arc::new(shape))
        });
        Self { own: own.collect(), others: Mutex::new(HashMap::new()) }
    }

    /// The shape of the definition with that hash; without steps if the store does not have it.
    pub(crate) async fn of(&self, engine: &Engine, hash: &str) -> Result<Arc<Shape>, Problem> {
        if let Some(shape) =
            self.own.get(hash).cloned().or_else(|| self.others().get(hash).cloned())
        {
            return Ok(shape);
        }
        let Some(document) = engine.definition(hash).await? else {
            return Ok(Arc::default());
        };
        let shape = Shape::new(&document, None)
            .map_err(|error| Problem::new(Kind::StoreFailed, error.to_string()))?;
        let shape = Arc::new(shape);
        let mut others = self.others();
        if others.len() >= CACHED_SHAPES_MAX {
            others.clear();
        }
        others.insert(hash.to_owned(), shape.clone());
        Ok(shape)
    }

    fn others(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Shape>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
