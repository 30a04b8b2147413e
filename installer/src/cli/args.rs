//! The command line as it is written.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// One blueprint becomes a running, verified cluster, on any infrastructure.
#[derive(Debug, Parser)]
#[command(name = "castrum", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
}

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How results are written
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, env = "CASTRUM_OUTPUT")]
    pub output: Format,
    /// No colour, no redrawing
    #[arg(long, global = true, env = "CASTRUM_NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_color: bool,
    /// Say more of what is going on (-vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Table,
    /// JSON; runs write one event a line.
    Json,
    /// YAML.
    Yaml,
}

/// Which blueprint.
#[derive(Debug, Clone, Args)]
pub struct Blueprint {
    /// The blueprint
    #[arg(value_name = "BLUEPRINT", default_value = "cluster.yaml", env = "CASTRUM_BLUEPRINT")]
    pub file: PathBuf,
}

/// Which blueprint, for commands whose own arguments come first.
#[derive(Debug, Clone, Args)]
pub struct BlueprintOption {
    /// The blueprint
    #[arg(
        short = 'f',
        long = "file",
        value_name = "BLUEPRINT",
        default_value = "cluster.yaml",
        env = "CASTRUM_BLUEPRINT"
    )]
    pub file: PathBuf,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented blueprint to begin with
    Init(Init),
    /// Check a blueprint; every finding at once
    Validate(Blueprint),
    /// Bring a blueprint into its usual form; comments are kept
    Fmt(Fmt),
    /// Explain a field of the blueprint; or, with `wait`, what waits for what, and what would help
    Explain(Explain),
    /// Show what an apply would do, round by round; changes nothing
    Plan(Plan),
    /// Make the cluster as the blueprint declares it
    Apply(Apply),
    /// Find the cluster again when `.castrum/` is lost, and make its keyring anew
    Recover(Recover),
    /// Show how the cluster is
    Status(Status),
    /// Wait until a gate is open
    WaitFor(WaitFor),
    /// List nodes, components, resources, checks, ...
    Get(Get),
    /// Show what happened
    Events(Events),
    /// Show how long everything took
    Timeline(Timeline),
    /// Draw what depends on what
    Graph(Graph),
    /// Work with one node
    #[command(subcommand)]
    Node(Node),
    /// List providers, and hold one to the contract
    #[command(subcommand)]
    Provider(Provider),
    /// Break the lease of a command that will never end, where state lies in an object store
    Unlock(Unlock),
    /// Remove the cluster and everything of it
    Destroy(Destroy),
    /// Write completions for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The file to write; `-` for standard output
    #[arg(default_value = "cluster.yaml")]
    pub file: PathBuf,
    /// The provider to begin with
    #[arg(long, default_value = "local")]
    pub provider: String,
    /// The name of the cluster
    #[arg(long, default_value = "demo")]
    pub name: String,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The field, as in `groups.count`; all of them if left out. `wait`: what waits in the cluster
    pub path: Option<String>,
    /// With `wait`: only of this node or component
    pub about: Option<String>,
    /// With `wait`: which blueprint.
    #[command(flatten)]
    pub blueprint: BlueprintOption,
}

/// `fmt`.
#[derive(Debug, Args)]
pub struct Fmt {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// Only say whether the file would change (exit code 2 if so)
    #[arg(long)]
    pub check: bool,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// Keep the plan in a file, for `apply`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// End with 2 if there is something to do
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// The blueprint, or a plan kept by `plan --out`
    #[arg(value_name = "BLUEPRINT", default_value = "cluster.yaml", env = "CASTRUM_BLUEPRINT")]
    pub file: PathBuf,
    /// Do not ask
    #[arg(short, long, visible_alias = "auto-approve")]
    pub yes: bool,
}

/// `recover`.
#[derive(Debug, Args)]
pub struct Recover {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// Accept host keys that nothing vouches for, as they are shown; compare them with the machines' own first
    #[arg(long)]
    pub accept_host_keys: bool,
    /// Do not ask before a new keyring is made and brought to the nodes
    #[arg(short, long, visible_alias = "auto-approve")]
    pub yes: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// Everything about one node
    #[arg(long)]
    pub node: Option<String>,
}

/// `wait-for`.
#[derive(Debug, Args)]
pub struct WaitFor {
    /// `healthy`, `quorum`, `node/NAME[/healthy]`, `component/NAME`, `role/ROLE`
    pub gate: String,
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: BlueprintOption,
    /// Give up after this many seconds (exit code 40)
    #[arg(long, default_value_t = 600)]
    pub timeout: u64,
}

/// `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// `nodes`, `components`, `resources`, `checks`, `firewall`, `waves`, `ports`, `packages` or `founders`
    pub what: String,
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: BlueprintOption,
    /// Only nodes of this role
    #[arg(long)]
    pub role: Option<String>,
    /// Only nodes of this group
    #[arg(long)]
    pub group: Option<String>,
    /// Only nodes of this site
    #[arg(long)]
    pub site: Option<String>,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// Of all runs, not only of the last
    #[arg(long)]
    pub all: bool,
    /// Only of this node
    #[arg(long)]
    pub node: Option<String>,
    /// Go on as they happen
    #[arg(long)]
    pub follow: bool,
}

/// `timeline`.
#[derive(Debug, Args)]
pub struct Timeline {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// Write a picture
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// The run; the last apply if left out
    #[arg(long)]
    pub run: Option<String>,
}

/// `graph`.
#[derive(Debug, Args)]
pub struct Graph {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// The language of the drawing; Graphviz if left out, or data with `-o json`
    #[arg(long, value_enum)]
    pub format: Option<GraphFormat>,
}

/// The language of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// A picture.
    Svg,
    /// Data.
    Json,
}

/// `node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Log in to a node, or run a command on it
    Ssh {
        /// The node
        node: String,
        /// Which blueprint.
        #[command(flatten)]
        blueprint: BlueprintOption,
        /// The command; a shell if left out
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Show the log of a node
    Logs {
        /// The node
        node: String,
        /// Only of this component; of the agent if it is `agent`
        component: Option<String>,
        /// Which blueprint.
        #[command(flatten)]
        blueprint: BlueprintOption,
        /// Go on as it is written
        #[arg(long)]
        follow: bool,
        /// How many lines to begin with
        #[arg(long, default_value_t = 200)]
        lines: u32,
    },
}

/// `provider`.
#[derive(Debug, Subcommand)]
pub enum Provider {
    /// List the providers that are built in, and the executables `castrum-provider-NAME`
    List,
    /// Hold a provider to the contract: makes, changes and removes machines of two clusters of its own
    Check(ProviderCheck),
}

/// `provider check`.
#[derive(Debug, Args)]
pub struct ProviderCheck {
    /// The provider
    pub name: String,
    /// A setting of the site, as JSON or else as text
    #[arg(long = "setting", value_name = "KEY=VALUE", conflicts_with = "blueprint")]
    pub settings: Vec<String>,
    /// Take the settings, and machines that exist already, from a site of this blueprint
    #[arg(long, value_name = "FILE", requires = "site")]
    pub blueprint: Option<PathBuf>,
    /// The site of the blueprint
    #[arg(long, requires = "blueprint")]
    pub site: Option<String>,
    /// A setting under which the place does not answer, to see that unseen is not taken for absent
    #[arg(long, value_name = "KEY=VALUE")]
    pub unreachable: Vec<String>,
    /// Do not ask for the provider's name
    #[arg(short, long, visible_alias = "auto-approve")]
    pub yes: bool,
}

/// `unlock`.
#[derive(Debug, Args)]
pub struct Unlock {
    /// The lease, as the command says that was kept out by it
    pub id: String,
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: BlueprintOption,
}

/// `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Which blueprint.
    #[command(flatten)]
    pub blueprint: Blueprint,
    /// Do not ask for the cluster's name
    #[arg(short, long, visible_alias = "auto-approve")]
    pub yes: bool,
}

impl Node {
    /// The blueprint.
    pub fn file(&self) -> &std::path::Path {
        match self {
            Self::Ssh { blueprint, .. } | Self::Logs { blueprint, .. } => &blueprint.file,
        }
    }
}
