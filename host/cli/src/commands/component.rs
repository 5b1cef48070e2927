//! `weir component`

use crate::exit::Failure;
use crate::out;
use crate::server_args::AskArgs;

/// List and delete the components that were uploaded to a server
///
/// Example: weir component list
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    ask: AskArgs,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List the components, by their ids
    ///
    /// Example: weir component list --output json
    List,
    /// Delete a component that no job uses
    ///
    /// Example: weir component delete sha256:4f2d…
    Delete {
        /// The component's id
        id: String,
    },
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let client = args.ask.client();
    match &args.action {
        Action::List => {
            let components = client.components().await?;
            if args.ask.json() {
                return out::print_json(&components);
            }
            let head = ["COMPONENT", "BYTES"].map(str::to_owned).to_vec();
            let rows = components.iter().map(|component| vec![component.id.clone(), component.size.to_string()]);
            out::print(&out::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))?;
        }
        Action::Delete { id } => {
            client.delete_component(id).await?;
            out::tell(&format!("deleted {id}"));
        }
    }
    Ok(())
}
