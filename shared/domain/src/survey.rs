//! The survey after a call: what an operator asks, whether a visitor's answers fit, and what they come to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    field::FieldError,
    form::{MAX_LABEL, check_id, check_options, keep},
    strict,
};

/// Questions of a survey at most.
pub const MAX_QUESTIONS: usize = 10;
/// Characters of a comment.
pub const MAX_COMMENT: usize = 2_000;

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum QuestionKind {
    /// 1 to 5.
    Rating,
    /// One of some texts.
    Choice,
}

strict::words!(QuestionKind);

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Question {
    /// Its name in answers: unlike every other's.
    pub id: String,
    /// How it is answered.
    pub kind: QuestionKind,
    /// What the visitor reads.
    pub label: String,
    /// What a visitor chooses from: of `choice` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// The survey. Without questions there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Survey {
    /// Its questions, in order.
    pub questions: Vec<Question>,
    /// Whether visitors may add a comment.
    #[serde(default)]
    pub comment: bool,
}

/// What a visitor answers to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
pub struct Given {
    /// The question.
    pub question_id: String,
    /// To a rating.
    #[serde(default)]
    pub rating: Option<u64>,
    /// To a choice.
    #[serde(default)]
    pub text: Option<String>,
}

strict::objects!(Question, Survey, Given);

/// An answer as it is kept: with the question as the visitor read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The question.
    pub question_id: String,
    /// Its label then.
    pub label: String,
    /// 1 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u64>,
    /// The option chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A survey that was filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    /// The mean of the ratings, one decimal.
    pub rating: f64,
    /// The answers, in the order of the questions.
    pub answers: Vec<Answer>,
    /// What the visitor added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Survey {
    /// Checks what an operator sets.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(mut self) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        if self.questions.len() > MAX_QUESTIONS {
            return Err(vec![FieldError::invalid("questions", format!("must be at most {MAX_QUESTIONS}"))]);
        }
        let has_rating = self.questions.iter().any(|question| question.kind == QuestionKind::Rating);
        if !has_rating && (self.comment || !self.questions.is_empty()) {
            let message = "must hold at least one rating: its mean is what survey_submitted tells";
            errors.push(FieldError::invalid("questions", message));
        }
        let mut ids = BTreeSet::new();
        for (index, question) in self.questions.iter_mut().enumerate() {
            let at = format!("questions[{index}]");
            check_id(&at, &question.id, &mut ids, &mut errors);
            keep(&mut question.label, &format!("{at}.label"), MAX_LABEL, &mut errors);
            check_options(&at, &mut question.options, 2, question.kind == QuestionKind::Choice, &mut errors);
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    /// Checks a visitor's answers. Questions may be left out, but for one rating.
    ///
    /// # Errors
    /// Every answer that is wrong.
    pub fn fill(&self, given: Vec<Given>, comment: Option<&str>) -> Result<Filled, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut answers: Vec<(usize, Answer)> = Vec::new();
        for (index, given) in given.into_iter().enumerate() {
            let at = format!("answers[{index}]");
            let place = self.questions.iter().position(|question| question.id == given.question_id);
            let Some(place) = place else {
                errors.push(FieldError::unknown(format!("{at}.questionId"), "is not a question of the survey"));
                continue;
            };
            if answers.iter().any(|(known, _)| *known == place) {
                errors.push(FieldError::invalid(format!("{at}.questionId"), "is answered more than once"));
                continue;
            }
            match self.questions[place].answer(&at, given) {
                Ok(answer) => answers.push((place, answer)),
                Err(error) => errors.push(error),
            }
        }
        answers.sort_by_key(|(place, _)| *place);
        let answers: Vec<Answer> = answers.into_iter().map(|(_, answer)| answer).collect();
        let comment = self.comment(comment).map_err(|error| errors.push(error)).ok().flatten();
        let rating = mean(answers.iter().filter_map(|answer| answer.rating));
        match rating {
            Some(rating) if errors.is_empty() => Ok(Filled { rating, answers, comment }),
            None if errors.is_empty() => Err(vec![FieldError {
                message: "must hold at least one rating".into(),
                ..FieldError::required("answers")
            }]),
            _ => Err(errors),
        }
    }

    fn comment(&self, comment: Option<&str>) -> Result<Option<String>, FieldError> {
        let comment = comment.map(str::trim).filter(|comment| !comment.is_empty());
        let Some(comment) = comment else { return Ok(None) };
        if !self.comment {
            return Err(FieldError::unknown("comment", "is not asked for by the survey"));
        }
        prose("comment", comment, MAX_COMMENT).map(Some)
    }
}

impl Question {
    fn answer(&self, at: &str, given: Given) -> Result<Answer, FieldError> {
        let Given { question_id, rating, text } = given;
        let wrong = |field: &str, message: &str| Err(FieldError::invalid(format!("{at}.{field}"), message));
        match (self.kind, rating, &text) {
            (QuestionKind::Rating, Some(1..=5), None) => {}
            (QuestionKind::Rating, None, None) => return Err(FieldError::required(format!("{at}.rating"))),
            (QuestionKind::Rating, Some(_), None) => return wrong("rating", "must be a whole number from 1 to 5"),
            (QuestionKind::Rating, _, Some(_)) => return wrong("text", "must not be given to a rating"),
            (QuestionKind::Choice, None, Some(text)) if self.options.contains(text) => {}
            (QuestionKind::Choice, None, Some(_)) => return wrong("text", "must be one of the options"),
            (QuestionKind::Choice, None, None) => return Err(FieldError::required(format!("{at}.text"))),
            (QuestionKind::Choice, Some(_), _) => return wrong("rating", "must not be given to a choice"),
        }
        Ok(Answer { question_id, label: self.label.clone(), rating, text })
    }
}

/// A text of several lines.
pub(crate) fn prose(field: &str, text: &str, max: usize) -> Result<String, FieldError> {
    if text.trim().is_empty() {
        return Err(FieldError::invalid(field, "must not be empty"));
    }
    if text.chars().count() > max {
        let message = format!("must be at most {max} characters");
        return Err(FieldError { field: field.into(), message, code: "too_long" });
    }
    if text.chars().any(|character| character.is_control() && !"\n\r\t".contains(character)) {
        return Err(FieldError::invalid(field, "must not contain control characters"));
    }
    Ok(text.trim().to_owned())
}

/// The mean with one decimal, halves upwards; none of nothing.
fn mean(ratings: impl Iterator<Item = u64>) -> Option<f64> {
    let (sum, count) = ratings.fold((0, 0), |(sum, count), rating| (sum + rating, count + 1));
    // In whole tenths, so that what stands in the event is what was meant. At most ten ratings of at most five.
    let tenths = (20 * sum + count).checked_div(2 * count)?;
    u32::try_from(tenths).ok().map(|tenths| f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn survey(questions: &Value, comment: bool) -> Result<Survey, Vec<String>> {
        let survey: Survey =
            serde_json::from_value(json!({ "questions": questions, "comment": comment })).expect("a survey");
        survey.check().map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    fn rating(id: &str) -> Value {
        json!({"id": id, "kind": "rating", "label": "How was it?"})
    }

    #[test]
    fn what_operators_set_is_checked() {
        assert!(survey(&json!([]), false).is_ok());
        assert!(survey(&json!([rating("q1")]), true).is_ok());
        for (questions, comment, wrong) in [
            (json!([]), true, "questions"),
            (json!([{"id": "c", "kind": "choice", "label": "Why?", "options": ["a", "b"]}]), false, "questions"),
            (json!([rating("q1"), rating("q1")]), false, "questions[1].id"),
            (json!([rating("q1"), {"id": "c", "kind": "choice", "label": "Why?"}]), false, "questions[1].options"),
            (json!([{"id": "q", "kind": "rating", "label": "R", "options": ["1"]}]), false, "questions[0].options"),
            (Value::Array((0..11).map(|id| rating(&format!("q{id}"))).collect()), false, "questions"),
        ] {
            assert_eq!(survey(&questions, comment).expect_err("wrong")[0], wrong, "{questions}");
        }
    }

    #[test]
    fn answers_fit_the_survey() {
        let questions = json!([rating("q1"), rating("q2"), {"id": "why", "kind": "choice", "label": "Why?", "options": ["a", "b"]}]);
        let survey = survey(&questions, true).expect("good");
        let fill = |answers: Value, comment: Option<&str>| {
            let given: Vec<Given> = serde_json::from_value(answers).expect("answers");
            survey
                .fill(given, comment)
                .map_err(|errors| errors.into_iter().map(|error| error.field).collect::<Vec<_>>())
        };
        let all = json!([{"questionId": "why", "text": "b"}, {"questionId": "q2", "rating": 4}, {"questionId": "q1", "rating": 5}]);
        let filled = fill(all, Some(" Thanks!\nAda ")).expect("good");
        assert_eq!((filled.rating, filled.comment.as_deref()), (4.5, Some("Thanks!\nAda")));
        assert_eq!(
            filled.answers.iter().map(|answer| answer.question_id.as_str()).collect::<Vec<_>>(),
            ["q1", "q2", "why"]
        );
        let one = json!([{"questionId": "q1", "rating": 1}]);
        assert_eq!(fill(one.clone(), Some("  ")).expect("good").comment, None);
        assert!(fill(one.clone(), Some(&"é".repeat(2_000))).is_ok());
        assert_eq!(fill(one.clone(), Some(&"é".repeat(2_001))), Err(vec!["comment".into()]));
        assert_eq!(fill(one, Some("a\u{7}b")), Err(vec!["comment".into()]));
        for (answers, field) in [
            (json!([]), "answers"),
            (json!([{"questionId": "why", "text": "a"}]), "answers"),
            (json!([{"questionId": "q1"}]), "answers[0].rating"),
            (json!([{"questionId": "q1", "rating": 0}]), "answers[0].rating"),
            (json!([{"questionId": "q1", "rating": 6}]), "answers[0].rating"),
            (json!([{"questionId": "q1", "text": "5"}]), "answers[0].text"),
            (json!([{"questionId": "q1", "rating": 5, "text": "5"}]), "answers[0].text"),
            (json!([{"questionId": "q9", "rating": 5}]), "answers[0].questionId"),
            (json!([{"questionId": "q1", "rating": 5}, {"questionId": "q1", "rating": 5}]), "answers[1].questionId"),
            (json!([{"questionId": "q1", "rating": 5}, {"questionId": "why", "text": "c"}]), "answers[1].text"),
            (json!([{"questionId": "q1", "rating": 5}, {"questionId": "why", "rating": 1}]), "answers[1].rating"),
        ] {
            assert_eq!(fill(answers.clone(), None), Err(vec![field.to_owned()]), "{answers}");
        }
    }

    #[test]
    fn means_have_one_decimal_and_halves_go_up() {
        let of = |ratings: &[u64]| mean(ratings.iter().copied());
        assert_eq!(of(&[]), None);
        for (ratings, expected) in [
            (&[5][..], 5.0),
            (&[1, 2], 1.5),
            (&[5, 4, 4], 4.3),
            (&[5, 5, 4], 4.7),
            (&[1, 1, 1, 2], 1.3),
            (&[4, 5, 5, 5], 4.8),
        ] {
            assert_eq!(of(ratings), Some(expected), "{ratings:?}");
        }
    }
}
