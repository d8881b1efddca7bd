//! What the commands of a scenario do.

use ebb_core::forecast::Foreseen;
use ebb_core::names::{Generation, Hash};
use ebb_core::operator::Wish;
use ebb_core::outcome::Class;
use ebb_core::spec::Template;
use ebb_desired_state::{SessionName, Suspension, UserName};
use jiff::{SignedDuration, Timestamp};

use super::super::case::foreign;
use super::super::provider::{Fate, Fault, Group, Standing};
use super::super::world::World;
use super::{COMMANDS, STEADY_PASSES, Script, print};

impl Script {
    pub(super) fn command(&mut self, words: &[&str], block: &str) -> Result<(), String> {
        match words {
            ["clock", at] => self.world = World::new(self.seed, parse::<Timestamp>(at)?),
            ["lag", lag] => {
                let lag = duration(lag)?;
                self.world.provider.faults.lag = lag;
                self.world.provider.promised_lag = lag;
            }
            ["document"] => self.publish(block)?,
            ["document", "broken"] => self.publish_broken(block)?,
            ["document", "missing"] => {
                self.world.publish(None);
                self.say("the document is gone; the last valid one stays in force");
            }
            ["advance", by] => self.world.advance(duration(by)?),
            ["start", session] => self.world.request(&parse(session)?, Wish::Start),
            ["stop", session] => self.world.request(&parse(session)?, Wish::Stop),
            ["suspend", session, until, reason @ ..] => {
                let suspension = Suspension { reason: reason.join(" "), until: parse(until)? };
                self.world.request(&parse(session)?, Wish::Suspend(suspension));
            }
            ["resume", session] => self.world.request(&parse(session)?, Wish::Resume),
            ["detach", session, reason @ ..] => {
                self.world.request(&parse(session)?, Wish::Detach { reason: reason.join(" ") });
            }
            ["adopt", session] => self.world.request(&parse(session)?, Wish::Adopt),
            ["approve"] => self.world.approve(),
            ["plan" | "status" | "groups" | "assert-fixpoint" | "explain" | "expect", ..] => {
                return self.look(words);
            }
            ["provider", fault @ ..] => return self.disturb_provider(fault),
            [verb, who, rest @ ..] if who.contains('@') => return self.use_session(verb, who, rest),
            _ => return self.disturb(words),
        }
        Ok(())
    }

    fn publish(&mut self, text: &str) -> Result<(), String> {
        let document = ebb_desired_state::parse(text).map_err(|problems| problems.to_string())?;
        self.world.publish(Some(document));
        Ok(())
    }

    fn publish_broken(&mut self, text: &str) -> Result<(), String> {
        let Err(problems) = ebb_desired_state::parse(text) else {
            return Err("this document is valid".to_owned());
        };
        self.world.publish(None);
        self.say(problems.to_string().trim_end());
        self.say("the last valid document stays in force");
        Ok(())
    }

    fn use_session(&mut self, verb: &str, who: &str, rest: &[&str]) -> Result<(), String> {
        let (user, session) = who.split_once('@').ok_or("expected USER@SESSION")?;
        let (user, session): (UserName, SessionName) = (parse(user)?, parse(session)?);
        let world = &mut self.world;
        world.catch_up(&session);
        let (name, now) = (world.name_of(&session), world.now);
        let gateway = world.provider.gateway(&name);
        let arrived = match (verb, rest) {
            ("connect", []) => {
                world.clients.connect(&session, &user);
                world.catch_up(&session);
                true
            }
            ("keepalive", []) => {
                let client = world.clients.of(&session, &user);
                (client.on, client.keepalive) = (true, true);
                true
            }
            ("stream", [length]) => {
                let client = world.clients.of(&session, &user);
                (client.on, client.streams_until) = (true, Some(now + duration(length)?));
                true
            }
            ("leave", []) => {
                world.clients.leave(&session, &user);
                true
            }
            ("send", []) => world.clients.send(&session, &user, gateway, now),
            ("open", []) => world.clients.open_flow(&session, &user, gateway, now),
            ("close", []) => world.clients.close_flows(&session, &user, gateway, now),
            _ => return Err(unknown()),
        };
        if !arrived {
            self.say("no answer: the gateway does not know this user");
        }
        Ok(())
    }

    fn disturb(&mut self, words: &[&str]) -> Result<(), String> {
        let world = &mut self.world;
        match words {
            ["pause-telemetry", session] => world.set_reachable(&parse(session)?, false),
            ["resume-telemetry", session] => world.set_reachable(&parse(session)?, true),
            ["logs", on] => world.logs = *on == "on",
            ["restart-gateway", session] => {
                let session = parse(session)?;
                world.catch_up(&session);
                let (name, now) = (world.name_of(&session), world.now);
                world.provider.restart(&name, now);
            }
            ["break-gateway", session, status] => {
                self.stand(session, Some(Standing::Exited { status: parse(status)? }))?;
            }
            ["change-tags", session] => {
                let session = parse(session)?;
                let (name, now) = (world.name_of(&session), world.now);
                world.provider.change_tags(&name, now);
            }
            ["vanish", session] => self.stand(session, None)?,
            ["crash"] => world.crash(),
            ["crash-after", effects] => world.crash_after = Some(world.effects + parse::<u64>(effects)?),
            ["freeze"] => world.freeze(),
            ["thaw"] => world.thaw(),
            ["lose-store"] => {
                world.crash();
                world.store.lose();
                world.oracle.forget();
            }
            ["set-clock", by] => world.jump_clock(duration(by)?),
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn stand(&mut self, session: &str, standing: Option<Standing>) -> Result<(), String> {
        let session: SessionName = parse(session)?;
        let world = &mut self.world;
        world.catch_up(&session);
        let (name, now) = (world.name_of(&session), world.now);
        world.oracle.disturbed.insert(session);
        world.provider.disturb(&name, standing, now);
        Ok(())
    }

    fn disturb_provider(&mut self, words: &[&str]) -> Result<(), String> {
        let now = self.world.now;
        let faults = &mut self.world.provider.faults;
        match words {
            ["fail", call, class, times] => {
                let fault = Fault::Refuse(class_of(class)?);
                let times = std::iter::repeat_n(fault, parse(times)?);
                match *call {
                    "create" => faults.create.extend(times),
                    "delete" => faults.delete.extend(times),
                    "list" => faults.list.extend(times),
                    _ => return Err(unknown()),
                }
            }
            ["lose", "create"] => faults.create.push_back(Fault::LoseAnswer),
            ["lose", "delete"] => faults.delete.push_back(Fault::LoseAnswer),
            ["fate", "fails"] => faults.fates.push_back(Fate::Fails),
            ["fate", "hangs"] => faults.fates.push_back(Fate::Hangs),
            ["survive", times] => faults.survivals.push_back(parse(times)?),
            ["foreign", session] => {
                let group = Group { session: parse(session)?, ..foreign(0) };
                let name = format!("ebb-homer-{session}");
                self.world.provider.place(ebb_core::names::GatewayName::listed(&name), group, now);
            }
            ["orphan", session] => self.place_orphan(&parse(session)?)?,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// A running group of ours that the store knows nothing of.
    fn place_orphan(&mut self, session: &SessionName) -> Result<(), String> {
        let document = &self.world.desired().ok_or("there is no document")?.document;
        let hash = document.session(session).map(|session| Hash::of(&Template::of(session)));
        let group = Group {
            deployment: document.deployment.clone(),
            session: session.clone(),
            run: "orphan".to_owned().into(),
            generation: Generation(7),
            hash: hash.unwrap_or_else(|| Hash::from_tag("unknown")),
            standing: Standing::Creating { until: self.world.now, fate: Fate::Runs },
            ..foreign(0)
        };
        let (name, now) = (self.world.name_of(session), self.world.now);
        self.world.provider.place(name, group, now);
        Ok(())
    }

    fn look(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["plan"] => {
                let plan = self.world.preview().map(|(plan, _)| plan.to_string());
                let plan = plan.ok_or("there is no daemon or no document")?;
                self.say(plan.trim_end());
            }
            ["plan", ahead] => {
                self.look(&["plan"])?;
                let until = self.world.clock() + duration(ahead)?;
                let foreseen = self.world.foresee(until).ok_or("there is no daemon or no document")?;
                for Foreseen(note) in foreseen {
                    let session = note.session.as_ref().map(ToString::to_string).unwrap_or_default();
                    self.say(&format!("  {:.0} {session}: {}", note.at, note.message));
                }
            }
            ["status"] => {
                let status = print::status(&self.world)?;
                self.say(status.trim_end());
            }
            ["explain", session] => {
                let explanation = print::explain(&self.world, &parse(session)?)?;
                self.say(explanation.trim_end());
            }
            ["groups"] => {
                let groups = print::groups(&mut self.world);
                self.say(groups.trim_end());
            }
            ["expect", session, state] => {
                let session: SessionName = parse(session)?;
                let record = self.world.store.get(&session).map_err(|error| error.to_string())?;
                let found =
                    record.map_or_else(|| "gone".to_owned(), |record| record.state.name().to_string());
                if found != *state {
                    return Err(format!("{session} is {found}, not {state}"));
                }
            }
            ["assert-fixpoint"] => self.assert_fixpoint()?,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn assert_fixpoint(&mut self) -> Result<(), String> {
        let (plan, _) = self.world.preview().ok_or("there is no daemon or no document")?;
        if !plan.is_empty() || !self.world.is_at_rest() {
            return Err(format!("something is left to do:\n{plan}"));
        }
        let writes = |world: &World| (world.provider.calls.writes(), world.store.writes);
        let (before, passes) = (writes(&self.world), self.world.passes);
        while self.world.passes < passes + u64::from(STEADY_PASSES) {
            self.world.trigger();
            self.world.advance(SignedDuration::from_millis(10));
        }
        if writes(&self.world) != before {
            return Err("something was written although nothing had changed".to_owned());
        }
        self.say(&format!("nothing is left to do: {STEADY_PASSES} more passes wrote nothing"));
        Ok(())
    }
}

fn class_of(word: &str) -> Result<Class, String> {
    Ok(match word {
        "transient" => Class::Transient,
        "throttled" => Class::Throttled { retry_after_seconds: 90 },
        "quota" => Class::Quota,
        "conflict" => Class::Conflict,
        "stalled" => Class::Stalled,
        "fatal" => Class::Fatal,
        _ => return Err(format!("{word} is no class of failures")),
    })
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    parse(text)
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

fn unknown() -> String {
    format!("there is no such command; there are\n{COMMANDS}")
}
