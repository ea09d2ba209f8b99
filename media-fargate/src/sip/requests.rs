//! What the far side asks about one call, in the order in which it came.

use rsipstack::{sip::StatusCode, transaction::Transaction};
use tokio::{runtime::Handle, sync::mpsc};

/// The requests about one call. Those that wait when it is dropped are told that there is no such call, for their senders
/// would ask again and again.
pub(super) struct Requests {
    receiver: mpsc::Receiver<Transaction>,
    goodbye: Option<Transaction>,
}

impl Requests {
    pub(super) fn new(receiver: mpsc::Receiver<Transaction>) -> Self {
        Self { receiver, goodbye: None }
    }

    /// The next one; `None`: none can come any more. May be cancelled and called again.
    pub(super) async fn recv(&mut self) -> Option<Transaction> {
        self.receiver.recv().await
    }

    /// Puts a BYE aside that overtook the answer it is to end.
    pub(super) fn put_aside(&mut self, goodbye: Transaction) {
        if let Some(before) = self.goodbye.replace(goodbye) {
            disown(before);
        }
    }

    /// The BYE that was put aside.
    pub(super) fn goodbye(&mut self) -> Option<Transaction> {
        self.goodbye.take()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.receiver.close();
        self.goodbye.take().into_iter().for_each(disown);
        while let Ok(waiting) = self.receiver.try_recv() {
            disown(waiting);
        }
    }
}

fn disown(mut transaction: Transaction) {
    // Without a runtime the process is ending, and with it all calls.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            let _ = transaction.reply(StatusCode::CallTransactionDoesNotExist).await;
        });
    }
}
