//! `metacluster services`: the groups named `{Service, Partition}` of all clusters, and where their members are.

use metacluster_agent::federation::ServicesAnswer;

use crate::{
    args::Listing,
    failure::Outcome,
    output::{self, Paint},
    table::Table,
};

/// Prints the services that a gateway knows.
pub(crate) async fn run(listing: Listing) -> Outcome {
    let client = listing.asking.client();
    if listing.json {
        let text = client.get_text("/v1/services").await?;
        return output::print(&format!("{}\n", text.trim_end()));
    }
    let answer: ServicesAnswer = client.get("/v1/services").await?;
    let mut table = Table::new(&["SERVICE", "PARTITION", "MEMBERS"]);
    for service in &answer.services {
        for partition in &service.partitions {
            let members: Vec<String> =
                partition.members.iter().map(|(cluster, count)| format!("{count} in {cluster}")).collect();
            table.row(vec![
                service.name.as_str().into(),
                partition.name.as_str().into(),
                members.join(", ").as_str().into(),
            ]);
        }
    }
    output::print(&table.render(Paint::of_stdout(), output::columns()))
}
