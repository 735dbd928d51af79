//! What an app asks. Comes in: a method and its parameters as text. Goes out: a command, or the error that the
//! server would have answered.

use lianmai_client_sdk::session::Command;
use lianmai_protocol::wire::{self, Wire};
use lianmai_protocol::{ErrorName, RpcError};

/// Reads one call.
pub(crate) fn command(method: &str, params: &str) -> Result<Command, RpcError> {
    fn read<T: Wire>(params: &str) -> Result<T, RpcError> {
        Ok(wire::from_text(params)?)
    }
    Ok(match method {
        "join" => Command::Join(read(params)?),
        "leave" => Command::Leave(read(params)?),
        "publish" => Command::Publish(read(params)?),
        "unpublish" => Command::Unpublish(read(params)?),
        "subscribe" => Command::Subscribe(read(params)?),
        "unsubscribe" => Command::Unsubscribe(read(params)?),
        "setRole" => Command::SetRole(read(params)?),
        "mute" => Command::Mute(read(params)?),
        "unmute" => Command::Unmute(read(params)?),
        "kick" => Command::Kick(read(params)?),
        "closeChannel" => Command::CloseChannel(read(params)?),
        "addTasks" => Command::AddTasks(read(params)?),
        "updateTasks" => Command::UpdateTasks(read(params)?),
        "deleteTasks" => Command::DeleteTasks(read(params)?),
        "sendMessage" => Command::SendMessage(read(params)?),
        "setAttributes" => Command::SetAttributes(read(params)?),
        "renewToken" => Command::RenewToken(read(params)?),
        _ => return Err(ErrorName::MethodNotFound.into()),
    })
}
