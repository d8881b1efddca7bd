//! `ebb measure-azure`: what no documentation says about Container Instances, found out on a real subscription.
//!
//! It makes container groups, asks a small program in them, takes them away, and prints a report in Markdown. What it made carries
//! a tag, so a run that was interrupted is cleaned up by the next one, or by `--clean-up`.

mod groups;
mod probe;
mod sections;
mod ttl;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use self::groups::Groups;
use super::{Failure, Outcome};
use crate::azure::{Azure, AzureSettings};

/// Options of `ebb measure-azure`.
#[derive(Debug, clap::Args)]
pub(super) struct Measure {
    /// Region to measure in.
    #[arg(long, default_value = "eastus2", value_name = "REGION")]
    pub(super) region: String,
    /// UDP ports to try, in this order. The first that works is used for the rest.
    #[arg(long, value_delimiter = ',', default_value = "443,41820,4500,51820", value_name = "PORT,…")]
    pub(super) ports: Vec<u16>,
    /// Image with Python 3 that the probes run in.
    #[arg(long, default_value = "mcr.microsoft.com/azurelinux/base/python:3.12", value_name = "IMAGE")]
    pub(super) probe_image: String,
    /// Longest pause after which an answer is waited for, in seconds: the idle time of UDP up to which something can be said.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub(super) idle: u64,
    /// Longest time to wait for anything that may never happen, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(super) patience: u64,
    /// Resolver that is asked for how long names may be remembered. By default the first one of this machine.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) resolver: Option<SocketAddr>,
    /// Do not ask before making things that cost money.
    #[arg(long)]
    pub(super) yes: bool,
    /// Only delete what earlier measurements have left behind.
    #[arg(long)]
    pub(super) clean_up: bool,
    /// Azure.
    #[command(flatten)]
    pub(super) azure: AzureSettings,
}

pub(super) async fn measure(options: Measure) -> Outcome {
    let needed = |value: &Option<String>, name: &str| {
        let value = value.clone().filter(|value| !value.is_empty());
        value.ok_or_else(|| Failure::usage(format!("{name} is not set")))
    };
    let subscription = needed(&options.azure.subscription, "EBB_AZURE_SUBSCRIPTION (--azure-subscription)")?;
    let resource_group =
        needed(&options.azure.resource_group, "EBB_AZURE_RESOURCE_GROUP (--azure-resource-group)")?;
    let azure = Azure::open(&options.azure)?;
    let groups = Groups::new(
        &azure,
        &subscription,
        &resource_group,
        options.region.clone(),
        options.probe_image.clone(),
    );
    let left = groups.left_over().await.map_err(Failure::new)?;
    if options.clean_up {
        let count = groups.clean_up().await.map_err(Failure::new)?;
        println!("{count} container group(s) of earlier measurements are being deleted");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "This makes about {} container groups of 1 vCPU and 1 GB in {resource_group} ({}), one after the other, for up to an hour \
         in all, and deletes them: less than one US dollar at list prices. {} group(s) of earlier measurements are deleted too.",
        options.ports.len() + 6,
        options.region,
        left.len()
    );
    if !options.yes && !confirmed()? {
        return Err(Failure::usage("nothing was made; say yes, or give --yes"));
    }
    groups.clean_up().await.map_err(Failure::new)?;
    let report = tokio::select! {
        report = sections::all(&groups, &options) => Some(report),
        name = super::run::ending_signal() => {
            eprintln!("{}: cleaning up", name?);
            None
        }
    };
    let cleaned = groups.clean_up().await;
    if let Some(report) = &report {
        println!("{report}");
    }
    match cleaned {
        Ok(count) => eprintln!("{count} container group(s) that were still there are being deleted"),
        Err(why) => {
            let message = format!("{why}; `ebb measure-azure --clean-up` tries again to delete what is left");
            return Err(Failure::new(message));
        }
    }
    if report.is_some() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new("the measurement was interrupted"))
    }
}

fn confirmed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
