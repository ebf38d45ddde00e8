//! Loading an object, for every command that does.

use skep::{Engine, Loaded, Object};

use crate::exit::Advised;

/// What is said when an object does not load.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    /// When the kernel rejects a program, print its verifier's whole log.
    #[arg(long)]
    pub verifier_log: bool,
}

impl LoadArgs {
    /// Loads; a rejection comes with its log, or with the way to it.
    pub fn load(&self, object: Object, engine: &Engine) -> anyhow::Result<Loaded> {
        object.load(engine).map_err(|error| match error.verifier_log() {
            Some(log) if self.verifier_log => {
                say!("{}", log.trim_end());
                error.into()
            }
            Some(_) => {
                Advised { error, hint: "--verifier-log prints the verifier's whole log" }.into()
            }
            None => error.into(),
        })
    }
}
