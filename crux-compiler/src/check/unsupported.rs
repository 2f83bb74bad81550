//! What the language has and this version cannot do yet: refused by name, so that nobody looks for
//! a different mistake.

use crate::codes;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::model::{File, TriggerSource, Verb};
use crate::resolve::uses::each_step;
use crate::source::Span;

pub fn check(sources: &[File], sink: &mut Sink) {
    for file in sources {
        let Some(workflow) = &file.workflow else { continue };
        if let Some(version) = file.retired_version {
            let message = format!(
                "older versions beside the current one (`{}@{version}.yaml`) are not supported yet",
                file.stem
            );
            refuse(
                codes::RETIRED_UNSUPPORTED,
                workflow.version.span,
                message,
                "let its instances drain before you deploy the new version",
                sink,
            );
        }
        for trigger in &workflow.triggers {
            match &trigger.source {
                TriggerSource::Cron(key) => {
                    let help = "start the workflow from a scheduler, over HTTP or with an event";
                    refuse(
                        codes::CRON_UNSUPPORTED,
                        key.span,
                        "`cron` triggers are not supported yet".into(),
                        help,
                        sink,
                    );
                }
                TriggerSource::Kafka(key) => {
                    let help = "start the workflow over HTTP or with an event";
                    refuse(
                        codes::KAFKA_UNSUPPORTED,
                        key.span,
                        "`kafka` triggers are not supported yet".into(),
                        help,
                        sink,
                    );
                }
                TriggerSource::Http(_) | TriggerSource::Event(_) => {}
            }
        }
        for hook in
            [&workflow.hooks.on_start, &workflow.hooks.on_complete, &workflow.hooks.on_failure]
                .into_iter()
                .flatten()
        {
            if hook.value.starts_with("webhook:") {
                let help =
                    "publish under a routing key, and call the address from what consumes it";
                refuse(
                    codes::WEBHOOK_UNSUPPORTED,
                    hook.span,
                    "`webhook:` hooks are not supported yet".into(),
                    help,
                    sink,
                );
            }
        }
        each_step(&workflow.steps, &mut |step| {
            if let Verb::Child(child) = &step.verb {
                let help = format!(
                    "start `{}` with an `emit` that triggers it, and `wait` for an event that it emits",
                    child.workflow.value
                );
                refuse(
                    codes::CHILD_UNSUPPORTED,
                    step.verb_key,
                    "`child` is not supported yet".into(),
                    &help,
                    sink,
                );
            }
        });
    }
}

fn refuse(code: Code, span: Span, message: String, help: &str, sink: &mut Sink) {
    sink.push(Diagnostic::error(code, span, message).help(help));
}
