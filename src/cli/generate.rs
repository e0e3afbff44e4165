//! `sbx completions`, `sbx man`, `sbx schema`: what follows from the definitions.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::{self, Arguments};
use super::reference::{self, Item};
use super::{End, output};
use crate::error::{Error, exit};

pub(super) fn completions(which: args::Completions) -> Result<End, Error> {
    let mut script = Vec::new();
    clap_complete::generate(which.shell, &mut Arguments::command(), "sbx", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(End::Code(exit::OK))
}

pub(super) fn schema() -> Result<End, Error> {
    output::json(&crate::config::schema())?;
    Ok(End::Code(exit::OK))
}

pub(super) fn man(which: &args::Man) -> Result<End, Error> {
    match &which.out {
        None => output::text(&pages().swap_remove(0).1)?,
        Some(directory) => {
            let write_error = |path: &Path| {
                let path = path.to_owned();
                move |source| Error::Write { path, source }
            };
            fs::create_dir_all(directory).map_err(write_error(directory))?;
            for (name, page) in pages() {
                let path = directory.join(name);
                fs::write(&path, page).map_err(write_error(&path))?;
            }
        }
    }
    Ok(End::Code(exit::OK))
}

/// Every manual page with its file name, sbx(1) first.
fn pages() -> Vec<(String, String)> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![("sbx.1".to_owned(), page(&command, true))];
    for sub in command.get_subcommands() {
        let name = format!("sbx-{}", sub.get_name());
        for below in sub.get_subcommands().filter(|below| below.get_name() != "help") {
            let name = format!("{name}-{}", below.get_name());
            pages.push((format!("{name}.1"), page(&below.clone().display_name(name), false)));
        }
        pages.push((format!("{name}.1"), page(&sub.clone().display_name(name), false)));
    }
    pages
}

fn page(command: &clap::Command, main: bool) -> String {
    let man = Man::new(command.clone()).manual("sbx").source(format!("sbx {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    let mut render = || -> std::io::Result<()> {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if main {
            man.render_subcommands_section(&mut text)?;
        }
        for (title, items) in reference::SECTIONS {
            section(title, items).to_writer(&mut text)?;
        }
        if let Some(examples) = command.get_after_help() {
            let mut roff = Roff::new();
            roff.control("SH", ["EXAMPLES"]).control("nf", []);
            for line in examples.to_string().lines().skip(1) {
                roff.text([roman(line)]);
            }
            roff.control("fi", []).to_writer(&mut text)?;
        }
        Ok(())
    };
    render().expect("writing to memory");
    String::from_utf8(text).expect("every text is UTF-8")
}

fn section(title: &str, items: &[Item]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title.to_uppercase().as_str()]);
    for Item { name, meaning } in items {
        roff.control("TP", []).text([bold(*name)]).text([roman(*meaning)]);
    }
    roff
}
