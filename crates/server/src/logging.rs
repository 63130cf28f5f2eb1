//! The log: lines on standard error, whose levels can change while the server runs.

use std::sync::Arc;

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::config::{Log, LogFormat};

/// Modules below us that say too much at `info`: a line for each event that is authorised. The filter can still name them.
const QUIET: &str = "ruma_state_res=warn";

/// Changes the levels of the running log.
#[derive(Clone)]
pub struct LogLevels(Arc<reload::Handle<EnvFilter, Registry>>);

impl std::fmt::Debug for LogLevels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogLevels")
    }
}

/// Starts the log of this process. Can be done once.
///
/// # Errors
/// A filter that doesn't parse, or a log that runs already.
pub fn start(log: &Log) -> anyhow::Result<LogLevels> {
    let (filter, handle) = reload::Layer::new(parse(&log.filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init()?,
        LogFormat::Json => registry.with(lines.json()).try_init()?,
    }
    Ok(LogLevels(Arc::new(handle)))
}

impl LogLevels {
    /// Sets the levels to those of `filter`.
    ///
    /// # Errors
    /// A filter that doesn't parse.
    pub fn set(&self, filter: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(parse(filter)?)?)
    }
}

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    Ok(EnvFilter::try_new(format!("{QUIET},{filter}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_has_the_last_word() {
        assert_eq!(parse("info").expect("valid").to_string(), "ruma_state_res=warn,info");
        assert_eq!(parse("info,ruma_state_res=debug").expect("valid").to_string(), "ruma_state_res=debug,info");
        assert!(parse("loud=very").is_err());
    }
}
