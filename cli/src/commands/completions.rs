//! `convnext completions`: what makes a shell complete this program's commands.

use clap_complete::Shell;

use crate::{Context, Outcome, output};

/// Prints a script with which a shell completes this program's commands and arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext completions bash > convnext.bash
  convnext completions zsh > _convnext
  convnext completions fish > convnext.fish

A shell reads it from where it looks: ~/.local/share/bash-completion/completions, a folder of zsh's $fpath, or
~/.config/fish/completions.")]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut context.command(), context.name, &mut script);
    output::text(&String::from_utf8_lossy(&script))
}
