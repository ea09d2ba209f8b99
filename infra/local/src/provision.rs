//! The template's tables, queues and keys, made under names of this house.

use std::collections::BTreeMap;

use serde_json::json;
use store::{
    Aws, Error,
    provision::{self, QueueSpec, TableSpec},
};

use crate::template::{Names, Queue, Template};

/// What was made, by logical id.
#[derive(Clone, Debug, Default)]
pub struct Provisioned {
    /// Names of tables.
    pub tables: BTreeMap<String, String>,
    /// Addresses of queues.
    pub queue_urls: BTreeMap<String, String>,
    /// ARNs of queues.
    pub queue_arns: BTreeMap<String, String>,
    /// ARNs of keys.
    pub keys: BTreeMap<String, String>,
    /// What the stack is called.
    pub stack: String,
}

impl Provisioned {
    /// Makes what is absent. Names are `{stack}-{logical id}`, as CloudFormation would make them.
    ///
    /// # Errors
    /// When a service does not answer as it should.
    pub async fn make(aws: &Aws, template: &Template, stack: &str) -> Result<Self, Error> {
        let (tables, keys, queues) =
            tokio::try_join!(tables(aws, template, stack), keys(aws, template, stack), queues(aws, template, stack))?;
        let (queue_urls, queue_arns) = queues;
        Ok(Self { tables, queue_urls, queue_arns, keys, stack: stack.to_owned() })
    }

    /// What the template's references to these stand for.
    pub fn names(&self) -> Names {
        let refs = [&self.tables, &self.queue_urls, &self.keys];
        let arns = [&self.queue_arns, &self.keys];
        let all = |maps: &[&BTreeMap<String, String>]| {
            maps.iter().flat_map(|map| map.iter().map(|(id, value)| (id.clone(), value.clone()))).collect()
        };
        let mut names = Names { refs: all(&refs), arns: all(&arns) };
        names.refs.insert("AWS::StackName".to_owned(), self.stack.clone());
        names
    }
}

type ById = BTreeMap<String, String>;

async fn tables(aws: &Aws, template: &Template, stack: &str) -> Result<ById, Error> {
    let mut made = ById::new();
    for (id, table) in &template.tables {
        let name = format!("{stack}-{id}");
        let spec = TableSpec {
            name: name.clone(),
            partition: table.partition.clone(),
            sort: table.sort.clone(),
            expiry: table.expiry.clone(),
        };
        provision::table(aws, &spec).await?;
        made.insert(id.clone(), name);
    }
    Ok(made)
}

async fn keys(aws: &Aws, template: &Template, stack: &str) -> Result<ById, Error> {
    let mut made = ById::new();
    for id in &template.keys {
        made.insert(id.clone(), provision::key(aws, &format!("alias/{stack}-{id}")).await?);
    }
    Ok(made)
}

async fn queues(aws: &Aws, template: &Template, stack: &str) -> Result<(ById, ById), Error> {
    let (mut urls, mut arns) = (ById::new(), ById::new());
    // Queues that others send their dead letters to come first: those name them.
    let mut queues: Vec<(&String, &Queue)> = template.queues.iter().collect();
    queues.sort_by_key(|(_, queue)| queue.dead_letters.is_some());
    for (id, queue) in queues {
        let mut attributes = queue.attributes.clone();
        if let Some((dead, most)) = &queue.dead_letters {
            let redrive = json!({"deadLetterTargetArn": arns.get(dead), "maxReceiveCount": most});
            attributes.push(("RedrivePolicy".to_owned(), redrive.to_string()));
        }
        let made = provision::queue(aws, &QueueSpec { name: format!("{stack}-{id}"), attributes }).await?;
        urls.insert(id.clone(), made.url);
        arns.insert(id.clone(), made.arn);
    }
    Ok((urls, arns))
}
