//! The sans-IO engine in virtual time: scenarios, one per rule, and random histories. Every frame that the engine sends
//! passes through [`world::World`], which checks on each frame what must hold always.

mod calls;
mod model;
mod moved_urls;
mod notes;
mod picture;
mod world;

mod crowd;
mod delivery;
mod drain;
mod duplicates;
mod entry;
mod errors;
mod frames;
mod history;
mod journal;
mod limits;
mod liveness;
mod lobby;
mod media;
mod moderation;
mod operators;
mod pending_commands;
mod plays;
mod quality;
mod races;
mod random;
mod records;
mod replay;
mod restart;
mod resume;
mod roles;
mod shares;
mod talk;
mod task_admission;
mod task_checks;
mod task_claims;
mod task_restarts;
mod tasks;
mod tokens;
