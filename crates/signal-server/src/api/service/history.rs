//! How calls went. Comes in: what is asked of a channel's past. Goes out: what is remembered of it. Deliberately absent: what
//! an entry says.

use lianmai_protocol::ErrorName;
use lianmai_signal_engine::AdminCommand;
use tokio::sync::oneshot;

use super::Service;
use crate::api::error::ApiError;
use crate::records::{DeskError, Found, Search};

impl Service {
    /// What is remembered of a channel, up to now.
    pub(crate) async fn history(&self, search: Search) -> Result<Found, ApiError> {
        if !self.keeps_history {
            let text = "This server remembers nothing of calls (`history.keep_s` is 0).";
            return Err(ApiError::new(http::StatusCode::CONFLICT, "historyNotKept", text));
        }
        // Behind the turn of whatever was answered before; a channel that is over has a past as well.
        match self.shards.ask(AdminCommand::Show(search.channel.clone())).await {
            Ok(_) => {}
            Err(error) if *error.name() == ErrorName::ChannelClosed => {}
            Err(error) => return Err(error.into()),
        }
        self.written().await?;
        Ok(self.desk.history(search).await?)
    }

    /// Waits until what the engines have handed over is written.
    pub(super) async fn written(&self) -> Result<(), ApiError> {
        let (tell, told) = oneshot::channel();
        self.store.write(Vec::new(), Some(Box::new(move |stored| _ = tell.send(stored))));
        match told.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(DeskError::Failed.into()),
            Err(_) => Err(DeskError::Closed.into()),
        }
    }
}
