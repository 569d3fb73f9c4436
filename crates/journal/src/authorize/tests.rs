//! The tables of who may do what.

use super::*;
use crate::principal::Grant;

const ALICE: UserId = UserId(1);
const BOB: UserId = UserId(2);
const CORE: TeamId = TeamId(7);

fn grant(scopes: &[Scope]) -> Grant {
    Grant { scopes: scopes.iter().copied().collect(), ..Grant::usual() }
}

/// Alice, who is in no team and an administrator.
fn principal(scopes: &[Scope]) -> Principal {
    Principal { user: ALICE, grant: grant(scopes), ..Principal::sample() }
}

/// An open crate of these owners.
fn of<'a>(krate: &'a CrateName, owners: &'a [UserId]) -> OfCrate<'a> {
    OfCrate { krate, exists: true, owners, teams: &[], readers: None }
}

/// What somebody may do to a crate, one character an action: read, publish at all, create, publish, yank, owners; make a
/// token of one's own, make one of Bob's, list one's own, list Bob's, revoke one's own, revoke Bob's; audit, administer.
fn may(who: &Principal, of: OfCrate<'_>) -> String {
    let (own, read_only) = (who.grant.clone(), grant(&[Scope::Read]));
    let actions = [
        Action::Read,
        Action::Publish,
        Action::PublishNew { krate: of.krate, creators: None },
        Action::PublishUpdate(of),
        Action::Yank(of),
        Action::ChangeOwners(of),
        Action::CreateToken { of: who.user, grant: &own },
        Action::CreateToken { of: BOB, grant: &read_only },
        Action::ListTokens { of: who.user },
        Action::ListTokens { of: BOB },
        Action::RevokeToken { of: who.user, token: TokenId(99) },
        Action::RevokeToken { of: BOB, token: TokenId(99) },
        Action::Audit,
        Action::Administer,
    ];
    actions.map(|action| if authorize(who, action).is_ok() { 'x' } else { '-' }).iter().collect()
}

#[test]
fn the_table_of_scopes_and_owners() {
    let krate = "foo".parse().unwrap();
    let (own, other) = (of(&krate, &[ALICE]), of(&krate, &[BOB]));
    for (scopes, of_own, of_other) in [
        (&[][..], "--------------", "--------------"),
        (&[Scope::Read], "x-------------", "x-------------"),
        (&[Scope::PublishNew], "-xx-----------", "-xx-----------"),
        (&[Scope::PublishUpdate], "-x-x----------", "-x------------"),
        (&[Scope::Yank], "----x---------", "--------------"),
        (&[Scope::ChangeOwners], "-----x--------", "--------------"),
        (&[Scope::Tokens], "------x-x-x---", "------x-x-x---"),
        (&[Scope::Audit], "--------xx--x-", "--------xx--x-"),
        (&[Scope::Admin], "------xxxxxxxx", "------xxxxxxxx"),
        (&[Scope::Admin, Scope::Yank], "----x-xxxxxxxx", "----x-xxxxxxxx"),
        (&[Scope::Admin, Scope::ChangeOwners], "-----xxxxxxxxx", "-----xxxxxxxxx"),
        (&[Scope::Admin, Scope::PublishUpdate], "-x-x--xxxxxxxx", "-x----xxxxxxxx"),
    ] {
        let who = principal(scopes);
        assert_eq!(
            (may(&who, own), may(&who, other)),
            (of_own.into(), of_other.into()),
            "{scopes:?}"
        );
    }
}

/// A token outlives the role of its holder, and then does no more than they may.
#[test]
fn the_table_of_roles() {
    let krate = "foo".parse().unwrap();
    let scopes = &[Scope::Admin, Scope::Audit, Scope::Yank];
    for (role, expected) in [
        (Some(Role::Admin), "----x-xxxxxxxx"),
        (Some(Role::Auditor), "--------xx--x-"),
        (None, "--------------"),
    ] {
        let who = Principal { role, ..principal(scopes) };
        assert_eq!(may(&who, of(&krate, &[BOB])), expected, "{role:?}");
    }
    let refused = authorize(&Principal { role: None, ..principal(scopes) }, Action::Administer);
    let refused = refused.unwrap_err();
    assert!(refused.error.message.contains("role grant NAME admin"), "{}", refused.error);
    assert!(refused.lag_could_explain, "another replica may have given it");
}

/// crates.io's rule: members of an owning team publish and yank, and do not say who owns.
#[test]
fn the_table_of_teams() {
    let krate = "foo".parse().unwrap();
    let scopes = &[Scope::PublishUpdate, Scope::Yank, Scope::ChangeOwners];
    let owned = OfCrate { teams: &[CORE], ..of(&krate, &[BOB]) };
    let member =
        |teams: &[TeamId]| Principal { role: None, teams: teams.into(), ..principal(scopes) };
    assert_eq!(may(&member(&[TeamId(1), CORE]), owned), "-x-xx---------");
    assert_eq!(may(&member(&[TeamId(1)]), owned), "-x------------");
    let refused = authorize(&member(&[CORE]), Action::ChangeOwners(owned)).unwrap_err();
    assert!(refused.error.message.contains("cratehouse owner set foo"), "{}", refused.error);
}

#[test]
fn a_restricted_crate_does_not_exist_for_who_may_not_read_it() {
    let krate: CrateName = "foo".parse().unwrap();
    let scopes = &[Scope::PublishNew, Scope::PublishUpdate, Scope::Yank, Scope::ChangeOwners];
    let nobody_else = OfCrate { readers: Some(&[]), ..of(&krate, &[BOB]) };
    let alice = principal(&[&scopes[..], &[Scope::Admin, Scope::Audit]].concat());
    assert!(!may_read(Some(&alice), nobody_else), "an administrator neither");
    assert!(!may_read(None, nobody_else));
    for (action, said) in [
        (Action::Yank(nobody_else), absent(&krate)),
        (Action::ChangeOwners(nobody_else), absent(&krate)),
        (Action::PublishUpdate(nobody_else), not_a_creator(&krate).error),
    ] {
        let refused = authorize(&alice, action).unwrap_err().error;
        assert_eq!((refused.kind, refused.message), (said.kind, said.message), "{action:?}");
    }
    let absent_one = OfCrate { exists: false, readers: None, ..of(&krate, &[]) };
    let refused = authorize(&alice, Action::Yank(absent_one)).unwrap_err().error;
    assert_eq!(refused.message, absent(&krate).message, "the same words");

    let readers = [Subject::Team(CORE)];
    let some = OfCrate { readers: Some(&readers), ..nobody_else };
    let bob = Principal { user: BOB, role: None, ..principal(scopes) };
    let member = Principal { teams: [CORE].into(), ..principal(scopes) };
    let owned_by_team = OfCrate { teams: &[CORE], ..nobody_else };
    assert!(may_read(Some(&bob), nobody_else), "who owns it reads it");
    assert!(may_read(Some(&member), some) && may_read(Some(&member), owned_by_team));
    assert!(!may_read(Some(&member), nobody_else));
    assert!(
        authorize(&member, Action::Yank(some))
            .unwrap_err()
            .error
            .message
            .contains("only the owners")
    );
}

#[test]
fn a_name_may_be_for_some_creators_alone() {
    let krate = "acme-x".parse().unwrap();
    let create = |who: &Principal, creators| {
        authorize(who, Action::PublishNew { krate: &krate, creators }).map_err(|e| e.error.message)
    };
    let alice = principal(&[Scope::PublishNew, Scope::Admin]);
    let member = Principal { teams: [CORE].into(), ..alice.clone() };
    assert!(create(&alice, None).is_ok());
    let (team, user) = ([Subject::Team(CORE)], [Subject::User(ALICE)]);
    assert!(create(&member, Some(&team)).is_ok() && create(&alice, Some(&user)).is_ok());
    let refused = create(&alice, Some(&team)).unwrap_err();
    assert!(refused.contains("cratehouse creators list"), "{refused}");
    let itself = Action::RevokeToken { of: ALICE, token: alice.token };
    assert!(authorize(&principal(&[Scope::Read]), itself).is_ok(), "each token ends itself");
}

#[test]
fn a_token_makes_none_that_may_more_than_itself() {
    let make = |who: &Principal, grant: &Grant| {
        authorize(who, Action::CreateToken { of: who.user, grant }).is_ok()
    };
    let own = Grant {
        crates: vec!["acme-*".parse().unwrap()],
        expires: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        ..grant(&[Scope::Read, Scope::Yank, Scope::Tokens])
    };
    let who = Principal { role: None, grant: own.clone(), ..Principal::sample() };
    let crates = |pattern: &str| vec![pattern.parse().unwrap()];
    assert!(make(&who, &own));
    assert!(make(&who, &Grant { crates: crates("acme-x*"), ..own.clone() }));
    let ends = |at: &str| Some(at.parse().unwrap());
    for wider in [
        Grant { crates: Vec::new(), ..own.clone() },
        Grant { crates: crates("acme*"), ..own.clone() },
        Grant { crates: crates("*"), ..own.clone() },
        Grant { expires: None, ..own.clone() },
        Grant { expires: ends("2027-01-01T00:00:01Z"), ..own.clone() },
        Grant { scopes: [Scope::PublishNew].into(), ..own.clone() },
        Grant { scopes: [Scope::Admin].into(), ..own.clone() },
    ] {
        assert!(!make(&who, &wider), "{wider:?}");
    }
    let reads = Principal { grant: Grant { reads: crates("a*"), ..own.clone() }, ..who };
    assert!(!make(&reads, &own), "it may read less itself");
    assert!(make(&reads, &Grant { reads: crates("ab"), ..own }));
}

#[test]
fn a_pattern_bounds_every_action_on_a_crate_and_nothing_else() {
    let mut who = principal(&[
        Scope::PublishNew,
        Scope::PublishUpdate,
        Scope::Yank,
        Scope::ChangeOwners,
        Scope::Read,
    ]);
    who.grant.crates = vec!["acme-*".parse().unwrap()];
    for (name, expected) in [("acme-x", "xxxxxx--------"), ("foo", "xx------------")] {
        let krate = name.parse().unwrap();
        assert_eq!(may(&who, of(&krate, &[ALICE])), expected, "{name}");
    }
}

#[test]
fn a_token_may_read_some_crates_alone() {
    let mut who = principal(&[Scope::Read, Scope::Yank]);
    who.grant.reads = vec!["Acme-*".parse().unwrap(), "foo".parse().unwrap()];
    for (name, may) in [("acme_x", true), ("foo", true), ("foo-bar", false), ("acme", false)] {
        let krate = name.parse().unwrap();
        assert_eq!(may_read(Some(&who), of(&krate, &[ALICE])), may, "{name}");
    }
    let krate = "other".parse().unwrap();
    let refused = authorize(&who, Action::Yank(of(&krate, &[ALICE]))).unwrap_err().error;
    assert_eq!(refused.message, absent(&krate).message);
}

#[test]
fn what_another_replica_may_have_changed_is_said_so() {
    let krate: CrateName = "foo".parse().unwrap();
    let lags = |scopes: &[Scope], action| {
        authorize(&principal(scopes), action).unwrap_err().lag_could_explain
    };
    let of = of(&krate, &[BOB]);
    let new = Action::PublishNew { krate: &krate, creators: None };
    assert!(lags(&[Scope::PublishUpdate], Action::PublishUpdate(of)), "ownership may be new");
    assert!(lags(&[Scope::PublishUpdate], new), "it may exist");
    assert!(!lags(&[Scope::Yank], new));
    assert!(!lags(&[Scope::Read], Action::Yank(of)), "scopes of a token never change");
}
