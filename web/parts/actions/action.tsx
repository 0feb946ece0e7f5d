/**
 * A button that acts: at once where it is one thing that can be undone, else by a dialog.
 *
 * Invariants: nothing is changed before the person has seen what the dry run counted, unless it is one
 * thing and can be undone; the result is said in the live region; a result that comes after the person has
 * gone to another page changes nothing there.
 */
import { useRef, useState } from 'preact/hooks';
import type { ActionOutcome, ActionPlan } from '../../../src/console/api-types.ts';
import { announce } from '../../state/announce.ts';
import { failureOf, post } from '../../state/api.ts';
import { visits } from '../../state/router.ts';
import { can, loseSession } from '../../state/session.ts';
import { VERBS } from '../../state/verbs.ts';
import { type ActionProps, openAction, tell } from './action-dialog.tsx';

export function Action(props: ActionProps) {
  const { verb, target, label, about, quiet = false } = props;
  const [isBusy, setBusy] = useState(false);
  const isStarted = useRef(false);
  const text = VERBS[verb];
  if (!can(verb)) return null;

  const start = async () => {
    if (text.fields.length > 0 || text.danger || target.ids?.length !== 1) {
      openAction(props);
      return;
    }
    // Two clicks in one moment are one.
    if (isStarted.current) return;
    isStarted.current = true;
    const visit = visits.value;
    // One thing that can be undone is one click: the dry run is read here in place of a dialog.
    setBusy(true);
    try {
      const plan = await post<ActionPlan>(`/actions/${verb}`, {
        dryRun: true,
        target,
        options: {},
      });
      const isSimple =
        plan.count === 1 &&
        plan.reversible &&
        plan.confirm === null &&
        plan.impossible.length === 0;
      if (!isSimple) {
        if (visits.value === visit) openAction(props);
        return;
      }
      const outcome = await post<ActionOutcome>(`/actions/${verb}`, {
        token: plan.token,
        reason: `${text.label}, one ${text.one}`,
      });
      tell(verb, outcome);
      // A person who has gone to another page stays there.
      if (visits.value === visit) props.done?.(outcome);
    } catch (error) {
      const failure = failureOf(error);
      if (failure.status === 401) loseSession(failure);
      announce(`${text.label}: ${failure.message} ${failure.hint}`);
    } finally {
      isStarted.current = false;
      setBusy(false);
    }
  };

  return (
    <button
      type="button"
      class={`${quiet ? 'quiet' : ''} ${text.danger ? 'danger' : ''}`}
      disabled={isBusy}
      onClick={start}
      {...(about === undefined ? {} : { 'aria-label': `${label ?? text.label} ${about}` })}
    >
      {label ?? text.label}
      {text.fields.length > 0 && ' …'}
    </button>
  );
}
