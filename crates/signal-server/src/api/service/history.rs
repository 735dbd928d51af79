//! The history of calls. Comes in: a query about a channel. Goes out: its entries. Deliberately absent: their content.

use lianmai_protocol::ErrorName;
use lianmai_signal_engine::AdminCommand;
use tokio::sync::oneshot;

use super::Service;
use crate::api::error::ApiError;
use crate::records::{DatabaseError, HistoryPage, HistorySearch};

impl Service {
    /// Entries of the history of a channel, up to now.
    pub(crate) async fn history(&self, search: HistorySearch) -> Result<HistoryPage, ApiError> {
        if !self.keeps_history {
            let text = "This server remembers nothing of calls (`history.keep_s` is 0).";
            return Err(ApiError::new(http::StatusCode::CONFLICT, "historyNotKept", text));
        }
        // Waits for the turn of earlier requests. A channel that has ended has a history, too.
        match self.shards.ask(AdminCommand::GetDetail(search.channel.clone())).await {
            Ok(_) => {}
            Err(error) if *error.name() == ErrorName::ChannelClosed => {}
            Err(error) => return Err(error.into()),
        }
        self.wait_until_written().await?;
        Ok(self.database.history(search).await?)
    }

    /// Waits until all earlier writes of the engines are committed.
    pub(super) async fn wait_until_written(&self) -> Result<(), ApiError> {
        let (sender, receiver) = oneshot::channel();
        self.store.write(Vec::new(), Some(Box::new(move |stored| _ = sender.send(stored))));
        match receiver.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(DatabaseError::Failed.into()),
            Err(_) => Err(DatabaseError::Closed.into()),
        }
    }
}
