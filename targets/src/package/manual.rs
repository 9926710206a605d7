//! What is written for people and their shells, out of the program's own arguments.

use std::io::{self, Write as _};

use clap_complete::{Shell, generate};
use flate2::{Compression, GzBuilder};

use super::{Options, PackageError};

/// The manual's pages and the completions of shells, each with its path.
pub(super) fn pages() -> Result<Vec<(&'static str, Vec<u8>)>, PackageError> {
    let page = manual().and_then(|page| compressed(&page)).map_err(PackageError::Manual)?;
    let mut pages = vec![("usr/share/man/man1/edge-vit.1.gz", page)];
    for (shell, path) in [
        (Shell::Bash, "usr/share/bash-completion/completions/edge-vit"),
        (Shell::Fish, "usr/share/fish/vendor_completions.d/edge-vit.fish"),
        (Shell::Zsh, "usr/share/zsh/vendor-completions/_edge-vit"),
    ] {
        let mut script = Vec::new();
        generate(shell, &mut edge_vit::cli::command(), "edge-vit", &mut script);
        pages.push((path, script));
    }
    Ok(pages)
}

/// One page: the options, and behind them those of each subcommand.
fn manual() -> io::Result<Vec<u8>> {
    let mut command = edge_vit::cli::command();
    command.build();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(command, &format!("edge-vit {}", command.get_name()), &mut page)?;
    }
    page.write_all(
        b".SH FILES\n.TP\n\\fI/etc/edge\\-vit/edge\\-vit.toml\\fR\nWhat the service does.\n\
          .TP\n\\fI/etc/default/edge\\-vit\\fR\nIts environment: secrets.\n\
          .TP\n\\fI/var/lib/edge\\-vit/models\\fR\nThe models, of which one is in use.\n",
    )?;
    Ok(page)
}

/// The usage of a subcommand, and of those below it.
fn describe(command: &clap::Command, name: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let roff = |text: &str| text.replace('\\', "\\\\").replace('-', "\\-");
    let below = command.get_subcommands().filter(|below| below.get_name() != "help").collect::<Vec<_>>();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let arguments = if below.is_empty() {
        let positional = command.get_positionals().map(|argument| format!(" {argument}"));
        format!("{} [OPTION...]", positional.collect::<String>())
    } else {
        " COMMAND".to_owned()
    };
    writeln!(page, ".TP\n\\fB{}\\fR{}\n{}", roff(name), roff(&arguments), roff(&about))?;
    below.into_iter().try_for_each(|below| describe(below, &format!("{name} {}", below.get_name()), page))
}

/// The package's changelog, compressed: Debian wants one, and the project's own tells more.
pub(super) fn changelog(options: &Options) -> Result<Vec<u8>, PackageError> {
    let text = format!(
        "edge-vit ({}) stable; urgency=medium\n\n  * What changed is told in CHANGELOG.md of the project.\n\n \
         -- edge-vit developers <developers@edge-vit.invalid>  {}\n",
        options.version,
        mail_date(options.time)
    );
    compressed(text.as_bytes()).map_err(PackageError::Manual)
}

/// Compresses without a name and a time, which would differ from one run to the next.
pub(super) fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut gz = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gz.write_all(bytes)?;
    gz.finish()
}

/// A time in the form of e-mail (RFC 5322), as Debian's changelogs have it.
fn mail_date(time: u64) -> String {
    let zoned = jiff::Timestamp::from_second(i64::try_from(time).unwrap_or_default()).unwrap_or_default();
    jiff::fmt::rfc2822::to_string(&zoned.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default()
}
