//! `man`: the manual as one roff page, generated from the command line's structs. It covers all verbs: one file to
//! install.

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::Cli;

/// The page, as roff.
pub(super) fn page() -> std::io::Result<String> {
    // The verbs are taken before clap adds the global options to them: those are listed once.
    let verbs: Vec<clap::Command> = Cli::command().get_subcommands().cloned().collect();
    let man = Man::new(Cli::command().disable_help_subcommand(true));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for verb in verbs {
        page.extend_from_slice(section(verb)?.as_bytes());
    }
    man.render_options_section(&mut page)?;
    page.extend_from_slice(notes().as_bytes());
    man.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A verb below the heading of all verbs. The sections of its own page become paragraphs.
fn section(verb: clap::Command) -> std::io::Result<String> {
    let name = format!("transship {}", verb.get_name());
    let has_options = verb.get_arguments().next().is_some();
    let man = Man::new(verb.bin_name(&name).disable_help_flag(true));
    let mut text = Vec::new();
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if has_options {
        man.render_options_section(&mut text)?;
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with(".ie") && !line.starts_with(".el"));
    let mut section = format!(".SS {name}\n");
    for line in lines {
        section.push_str(if line.starts_with(".SH ") { ".PP" } else { line });
        section.push('\n');
    }
    Ok(section)
}

/// Examples, exit status and environment. Their lines are laid out already: `Title:` and indented lines.
fn notes() -> String {
    let text = Cli::command().get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut notes = String::new();
    for block in text.split("\n\n") {
        let (title, lines) = block.split_once('\n').unwrap_or((block, ""));
        let lines = lines.replace('\\', "\\e").replace('-', "\\-");
        notes.push_str(&format!(".SH {}\n.nf\n{lines}\n.fi\n", title.trim_end_matches(':').to_uppercase()));
    }
    notes
}
