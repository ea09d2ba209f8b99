//! The delivery log: one delivery, or pages of them, newest first, with filters.
//!
//! An app's deliveries lie in rooms, four a day. A page merges the rooms of as many days as it needs, and asks at most
//! `MAX_QUERIES` times: a page of a rare kind may be short, and still say that more may follow.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    delivery::{Delivery, Due, Status},
    event::Envelope,
    id::{AppId, DeliveryId, IntegrationId},
    retention::MAX_DELIVERY_DAYS,
    time::Timestamp,
};
use futures_util::future::try_join_all;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Error, Store,
    deliveries::status_value,
    erasure::is_mark,
    key::{DELIVERY_SHARDS, Key, PK, Range, SK},
    table::{Page, Row, from_row, string},
};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// A session lives this long at most, and an event may be as late.
const LATE: std::time::Duration = std::time::Duration::from_secs(8 * 60 * 60);
/// Queries of one page at most: a walk over all rooms that can hold rows.
const MAX_QUERIES: usize = 384;
/// Rooms asked side by side.
const AT_ONCE: usize = 32;

/// Which deliveries are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those to this integration.
    pub integration: Option<IntegrationId>,
    /// Those that stand in one of these; all when it is empty.
    pub statuses: Vec<Status>,
    /// Those accepted then or later.
    pub since: Option<Timestamp>,
}

/// A delivery with what another round of it needs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Whole {
    /// As the log shows it.
    #[serde(flatten)]
    pub delivery: Delivery,
    #[serde(default = "one")]
    round: u32,
    next_attempt: u32,
    envelope: String,
}

fn one() -> u32 {
    1
}

impl Whole {
    /// What was or will be sent.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn envelope(&self) -> Result<Envelope, Error> {
        serde_json::from_str(&self.envelope).map_err(|error| Error::unreadable("an envelope", error))
    }

    /// The message that begins another round.
    ///
    /// # Errors
    /// When the stored envelope cannot be read.
    pub fn again(&self, app: AppId) -> Result<Due, Error> {
        Ok(Due {
            delivery: self.delivery.id,
            app,
            integration: self.delivery.integration_id,
            envelope: self.envelope()?,
            accepted_at: self.delivery.created_at,
            attempt: self.next_attempt,
            round: self.round + 1,
            first: self.next_attempt,
            test: false,
            // The row is there and has its end.
            keep_days: None,
            trace: None,
        })
    }
}

/// A page, and where the next one begins: before the last row, or, when the page is short, where looking stopped.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// Its deliveries, newest first.
    pub page: Page<Whole>,
    /// The next page's `before`.
    pub next: Option<DeliveryId>,
}

/// One room of one day, newest row first.
#[derive(Clone, Debug)]
struct Room {
    day: Timestamp,
    shard: u8,
    /// What has been read: everything from here on.
    read_to: Option<String>,
    exhausted: bool,
}

impl Store {
    /// One delivery of one app.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn delivery(&self, app: AppId, id: DeliveryId) -> Result<Option<Delivery>, Error> {
        self.logged(app, id).await
    }

    /// The same with what was sent.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn whole_delivery(&self, app: AppId, id: DeliveryId) -> Result<Option<Whole>, Error> {
        self.logged(app, id).await
    }

    async fn logged<T: DeserializeOwned>(&self, app: AppId, id: DeliveryId) -> Result<Option<T>, Error> {
        let row = self.row(Key::delivery(app, id)).await?.filter(|row| !is_mark(row));
        row.map(|row| from_row("a delivery", row)).transpose()
    }

    /// Deliveries of one app, newest first, those older than `before`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn deliveries(
        &self,
        app: AppId,
        filter: &Filter,
        limit: u8,
        before: Option<DeliveryId>,
        now: Timestamp,
    ) -> Result<LogPage, Error> {
        let wanted = usize::from(limit);
        // A delivery's id takes its time from the visitor's clock, which may run ahead within the session's life.
        let newest = before.map_or(now.plus(LATE), |id| id.minted_at());
        // Rows live so long at most, an app has none from before it was made, and a row's time may lie before its acceptance.
        let oldest = now.as_millis() - (i64::from(MAX_DELIVERY_DAYS) + 1) * DAY_MILLIS;
        let since = filter.since.map_or(0, |since| since.as_millis() - i64::try_from(LATE.as_millis()).unwrap_or(0));
        let oldest = oldest.max(app.minted_at().as_millis()).max(since);
        let (first_day, last_day) = (newest.as_millis().div_euclid(DAY_MILLIS), oldest.div_euclid(DAY_MILLIS));

        let mut found: Vec<Whole> = Vec::new();
        let (mut day, mut days, mut queries) = (first_day, 1, 0);
        while day >= last_day && found.len() <= wanted {
            let group = (day - days + 1).max(last_day)..=day;
            let mut rooms: Vec<Room> = group
                .clone()
                .rev()
                .flat_map(|day| (0..DELIVERY_SHARDS).map(move |shard| (day, shard)))
                .map(|(day, shard)| Room {
                    day: Timestamp::from_millis(day * DAY_MILLIS),
                    shard,
                    read_to: before.map(|id| id.to_string()),
                    exhausted: false,
                })
                .collect();
            let mut of_group: Vec<Whole> = Vec::new();
            let mut saw_any = false;
            loop {
                for some in rooms.chunks_mut(AT_ONCE) {
                    let open: Vec<_> = some.iter_mut().filter(|room| !room.exhausted).collect();
                    queries += open.len();
                    let pages = open.into_iter().map(|room| self.read_on(app, filter, room, wanted));
                    for rows in try_join_all(pages).await? {
                        saw_any |= rows.1;
                        of_group.extend(rows.0);
                    }
                }
                // Everything newer than this has been seen, in every room.
                let seen_to = rooms.iter().filter(|room| !room.exhausted).filter_map(|room| room.read_to.clone()).max();
                let seen_to: Option<DeliveryId> = seen_to.and_then(|id| id.parse().ok());
                let Some(seen_to) = seen_to else { break };
                let seen = of_group.iter().filter(|whole| whole.delivery.id >= seen_to).count();
                if found.len() + seen > wanted || queries >= MAX_QUERIES {
                    of_group.retain(|whole| whole.delivery.id >= seen_to);
                    found.extend(sorted(of_group));
                    return Ok(cut(found, wanted, Some(seen_to)));
                }
            }
            found.extend(sorted(of_group));
            day -= days;
            // Over a stretch without rows: wider steps.
            days = if saw_any { 1 } else { (days * 2).min(8) };
            if queries >= MAX_QUERIES && found.len() <= wanted && day >= last_day {
                let end = Timestamp::from_millis((day + 1) * DAY_MILLIS);
                return Ok(cut(found, wanted, Some(DeliveryId::mint(end, &[0; 10]))));
            }
        }
        Ok(cut(found, wanted, None))
    }

    /// The next rows of a room, and whether it had any, fitting or not.
    async fn read_on(
        &self,
        app: AppId,
        filter: &Filter,
        room: &mut Room,
        wanted: usize,
    ) -> Result<(Vec<Whole>, bool), Error> {
        let range = Range::deliveries(app, room.day, room.shard);
        let mut conditions = Vec::new();
        let mut request = self.client.query().table_name(&self.table);
        if let Some(id) = filter.integration {
            conditions.push("integrationId = :integration".to_owned());
            request = request.expression_attribute_values(":integration", string(id));
        }
        if let Some(since) = filter.since {
            conditions.push("createdAt >= :since".to_owned());
            request = request.expression_attribute_values(":since", string(since));
        }
        if !filter.statuses.is_empty() {
            let names: Vec<_> = (0..filter.statuses.len()).map(|index| format!(":status{index}")).collect();
            for (name, status) in names.iter().zip(&filter.statuses) {
                request = request.expression_attribute_values(name, status_value(*status));
            }
            conditions.push(format!("#status IN ({})", names.join(", ")));
            request = request.expression_attribute_names("#status", "status");
        }
        let condition = if room.read_to.is_some() { "pk = :pk AND sk < :before" } else { "pk = :pk" };
        if let Some(read_to) = &room.read_to {
            request = request.expression_attribute_values(":before", AttributeValue::S(read_to.clone()));
        }
        // Without a filter no room gives more than a page; with one, most rows may not fit.
        let limit = if conditions.is_empty() { wanted + 1 } else { 200 };
        let answer = request
            .key_condition_expression(condition)
            .set_filter_expression((!conditions.is_empty()).then(|| conditions.join(" AND ")))
            .expression_attribute_values(":pk", AttributeValue::S(range.pk))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(i32::try_from(limit).unwrap_or(101))
            .send()
            .await
            .map_err(Error::unavailable("Query"))?;
        let next = answer.last_evaluated_key.as_ref().and_then(|row| row.get(SK)?.as_s().ok().cloned());
        room.exhausted = next.is_none();
        room.read_to = next.or(room.read_to.take());
        let saw_any = answer.scanned_count > 0;
        let mut rows: Vec<Row> = answer.items.unwrap_or_default();
        debug_assert!(rows.iter().all(|row| row.contains_key(PK)));
        rows.retain(|row| !is_mark(row));
        Ok((rows.into_iter().map(|row| from_row("a delivery", row)).collect::<Result<_, _>>()?, saw_any))
    }
}

fn sorted(mut deliveries: Vec<Whole>) -> Vec<Whole> {
    deliveries.sort_by_key(|whole| std::cmp::Reverse(whole.delivery.id));
    deliveries
}

/// The page of at most `wanted`. `stopped`: looking stopped there, and more may follow.
fn cut(mut found: Vec<Whole>, wanted: usize, stopped: Option<DeliveryId>) -> LogPage {
    let is_over = found.len() > wanted;
    found.truncate(wanted);
    let next = if is_over { found.last().map(|whole| whole.delivery.id) } else { stopped };
    LogPage { page: Page { items: found, has_more: next.is_some() }, next }
}
