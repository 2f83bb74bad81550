//! The step structs of the shipped pipelines, one per file. They stand where a shop's own systems
//! would be called — the mailer, the books, the store-room, the bank: each computes what it
//! returns, writes one line to the log, and touches nothing outside. What makes them fit to be
//! replaced is how they use [`StepContext::key`](crux_runtime::StepContext::key): it is the same
//! for every attempt of a step, so that the receiver can tell a repetition from a second request.

mod credit_note;
mod finalize_order;
mod notification;
mod numbers;
mod pay_back;
mod restock;
mod take_from_shelf;
mod void_credit_note;

pub use credit_note::CreditNoteStep;
pub use finalize_order::FinalizeOrderStep;
pub use notification::NotificationStep;
pub use pay_back::PayBackStep;
pub use restock::RestockStep;
pub use take_from_shelf::TakeFromShelfStep;
pub use void_credit_note::VoidCreditNoteStep;

use crate::pipelines::Steps;

/// One of each, in the place of its step type. What steps need from outside — clients, pools,
/// settings — is made here and handed in.
pub fn steps() -> Steps {
    Steps {
        finalize_order: FinalizeOrderStep,
        issue_credit_note: CreditNoteStep::default(),
        pay_back: PayBackStep,
        restock: RestockStep,
        send_notification: NotificationStep,
        take_from_shelf: TakeFromShelfStep,
        void_credit_note: VoidCreditNoteStep,
    }
}
