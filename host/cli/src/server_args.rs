//! Which server a command talks to.

use weir_client::Client;

/// Which server.
#[derive(clap::Args, Debug)]
pub struct ServerArgs {
    /// The server's address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:8081",
        env = "WEIR_SERVER",
        hide_env_values = true
    )]
    server: String,
}

impl ServerArgs {
    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(&self.server)
    }
}

/// Which server is asked, and how its answer is printed.
#[derive(clap::Args, Debug)]
pub struct AskArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// How to print it
    #[arg(long, short, value_enum, default_value_t, global = true, value_name = "FORMAT")]
    output: OutputFormat,
}

impl AskArgs {
    /// A client of the server.
    pub fn client(&self) -> Client {
        self.server.client()
    }

    /// Whether a program reads the answer.
    pub fn json(&self) -> bool {
        self.output == OutputFormat::Json
    }
}

/// How a command prints what it got.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OutputFormat {
    /// for people
    #[default]
    Table,
    /// for programs
    Json,
}
