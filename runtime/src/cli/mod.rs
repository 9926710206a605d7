//! The command line: where pictures come from, and how results are written.

mod arguments;
mod files;
#[cfg(all(feature = "camera", target_os = "linux"))]
mod live;
mod output;

use std::io;

use anyhow::{Context, Result};
use edge_vit::Classifier;

pub(crate) use arguments::Arguments;
use output::Output;

/// Does what was asked for. Gives whether all of it succeeded; results are on stdout, what failed on stderr.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let classifier = Classifier::open(&arguments.model).with_context(|| arguments.model.display().to_string())?;
    let mut output = Output::new(arguments.top_k, arguments.json);
    if arguments.self_test {
        let report = classifier.self_test().with_context(|| arguments.model.display().to_string())?;
        output.self_test(&report)?;
        return Ok(report.passed());
    }
    #[cfg(all(feature = "camera", target_os = "linux"))]
    if let Some(index) = arguments.camera {
        return live::run(&classifier, index, &mut output).map(|()| true);
    }
    let paths = match &arguments.dir {
        Some(dir) => files::pictures(dir)?,
        None => arguments.image.clone(),
    };
    files::run(&classifier, &paths, &mut output)
}

/// Whether `error` only says that nobody reads stdout any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken))
}
