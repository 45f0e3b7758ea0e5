//! What is told of durability when a run is over.

use std::fmt;

/// Whether a loaded image outlives a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// The engine's file system was synced after the load.
    Synced,
    /// The engine unmounted a container of the image, by which it synced its file system.
    Unmounted,
    /// Nobody knows: the engine's data is not on this machine, or out of sight.
    Unproven {
        /// Why.
        why: String,
    },
}

/// What came of an image that was not believed: an interrupted run had left it, or all were to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The image, as a person writes it.
    pub image: String,
    /// What came of it.
    pub outcome: RecoveredAs,
}

/// The fate of an image that was not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveredAs {
    /// Its files are as the cache's layers have them.
    Whole,
    /// It was damaged, was removed and loaded again, and is whole.
    Repaired,
    /// It was damaged and was removed, and is not loaded again yet: why is its own error.
    Removed,
    /// It is damaged, and could not be removed.
    Stuck {
        /// Why, and what to do.
        todo: String,
    },
    /// It could not be checked, and is left as it is and not believed.
    Doubtful {
        /// Why, and what to do.
        todo: String,
    },
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = &self.image;
        match &self.outcome {
            RecoveredAs::Whole => write!(f, "{image}: its files were compared and are whole"),
            RecoveredAs::Repaired => write!(f, "{image}: it was damaged, was removed and loaded again"),
            RecoveredAs::Removed => write!(f, "{image}: it was damaged and was removed"),
            RecoveredAs::Stuck { todo } | RecoveredAs::Doubtful { todo } => write!(f, "{image}: {todo}"),
        }
    }
}

/// What a run says of durability as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurableReport {
    /// The images that were sent, by the reference that a person writes, with how durable they are.
    pub images: Vec<(String, Durability)>,
    /// What became of images of an interrupted run.
    pub recovered: Vec<Recovered>,
    /// Why the run could not be written down: a power cut in the middle of it would have gone unnoticed.
    pub unprotected: Option<String>,
}

impl DurableReport {
    /// The images whose durability nobody knows, and why.
    pub fn unproven(&self) -> impl Iterator<Item = (&str, &str)> {
        self.images.iter().filter_map(|(image, durability)| match durability {
            Durability::Unproven { why } => Some((&**image, &**why)),
            _ => None,
        })
    }
}
