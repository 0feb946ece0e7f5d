/**
 * The dialog of an action: dry run, the count in the button, the reason, the result.
 *
 * Invariants: one dialog is open at most, outside of the pages: a page that changes by itself does not take
 * it away, going to another page does; what is deleted or replayed is named by typing it; the second request
 * names the set of the first by its token; a session that ends meanwhile keeps what was typed for its user.
 */
import { signal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type {
  ActionOutcome,
  ActionPlan,
  ActionTarget,
  Verb,
} from '../../../src/console/api-types.ts';
import { announce } from '../../state/announce.ts';
import { ApiFailure, failureOf, post } from '../../state/api.ts';
import { count, many, visible } from '../../state/format.ts';
import { visits } from '../../state/router.ts';
import { loseSession, root } from '../../state/session.ts';
import { VERBS } from '../../state/verbs.ts';
import { Fields, optionsOf, type Values } from '../forms/fields.tsx';

export interface ActionProps {
  readonly verb: Verb;
  readonly target: ActionTarget;
  /** In place of the verb's own. */
  readonly label?: string;
  /** Names what it is about, for users of a screen reader, which reads the button alone. */
  readonly about?: string;
  readonly initial?: Values;
  readonly quiet?: boolean;
  /** After it was done. */
  readonly done?: (outcome: ActionOutcome) => void;
}

interface OpenAction extends ActionProps {
  /** The visit of the page on which it was opened. */
  readonly visit: number;
  readonly number: number;
}

const open = signal<OpenAction | null>(null);
let opened = 0;

const SESSION_ENDED = new ApiFailure(401, {
  code: 'AUTHENTICATION_FAILED',
  message: 'Your session had ended, so nothing was done.',
  hint: 'Press the button again.',
});

export function openAction(props: ActionProps): void {
  opened += 1;
  open.value = { ...props, visit: visits.value, number: opened };
}

/** Beside the pages. */
export function ActionHost() {
  const visit = visits.value;
  const shown = open.value;
  useEffect(() => {
    if (open.value !== null && open.value.visit !== visit) open.value = null;
  }, [visit]);
  if (shown === null || shown.visit !== visit) return null;
  return (
    <ActionDialog
      key={shown.number}
      {...shown}
      close={() => {
        if (open.value === shown) open.value = null;
      }}
    />
  );
}

function ActionDialog({
  verb,
  target,
  about,
  initial,
  done,
  visit,
  close,
}: OpenAction & { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const text = VERBS[verb];
  const [values, setValues] = useState<Values>(() => ({
    ...Object.fromEntries(text.fields.map(({ name, initial: value = '' }) => [name, value])),
    ...initial,
  }));
  const [plan, setPlan] = useState<ActionPlan | null>(null);
  const [outcome, setOutcome] = useState<ActionOutcome | null>(null);
  const [failure, setFailure] = useState<ApiFailure | null>(null);
  const [reason, setReason] = useState('');
  const [confirm, setConfirm] = useState('');
  const [isBusy, setBusy] = useState(false);

  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setFailure(null);
    try {
      await work();
    } catch (error) {
      const failed = failureOf(error);
      if (failed.status === 401) loseSession(failed);
      setFailure(failed.status === 401 ? SESSION_ENDED : failed);
    } finally {
      setBusy(false);
    }
  };
  const dryRun = () =>
    attempt(async () => {
      const options = optionsOf(
        text.fields.filter(({ isTarget }) => !isTarget),
        values,
      );
      const more = optionsOf(
        text.fields.filter(({ isTarget }) => isTarget),
        values,
      );
      const request = { dryRun: true, target: { ...target, ...more }, options };
      setPlan(await post<ActionPlan>(`/actions/${verb}`, request));
    });
  const act = (token: string) =>
    attempt(async () => {
      const result = await post<ActionOutcome>(`/actions/${verb}`, {
        token,
        reason,
        ...(plan?.confirm == null ? {} : { confirm }),
      });
      tell(verb, result);
      // A person who has gone to another page stays there.
      if (visits.value === visit) done?.(result);
      if (result.failed.length === 0) dialog.current?.close();
      else setOutcome(result);
    });

  useEffect(() => {
    if (text.fields.length === 0) dryRun();
  }, []);

  // While a login is asked for the dialog waits, with what was typed, for the same user.
  const session = root.value;
  const user = useRef(session?.user);
  const waits = useRef(false);
  useLayoutEffect(() => {
    if (session === null) {
      waits.current = true;
      dialog.current?.close();
    } else if (session.user !== user.current) {
      close();
    } else {
      waits.current = false;
      if (dialog.current?.open === false) dialog.current.showModal();
    }
  }, [session]);

  return (
    <dialog
      ref={dialog}
      class="action"
      aria-labelledby="action-title"
      onClose={() => !waits.current && close()}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (isBusy || outcome !== null) return;
          if (plan === null) dryRun();
          else act(plan.token);
        }}
      >
        <h2 id="action-title">
          {text.label}
          {about !== undefined && ` ${visible(about)}`}
        </h2>
        {text.explains !== '' && <p class="hint">{text.explains}</p>}
        {outcome !== null ? (
          <Outcome verb={verb} outcome={outcome} />
        ) : plan === null ? (
          <Fields
            fields={text.fields}
            values={values}
            change={(name, value) => setValues({ ...values, [name]: value })}
          />
        ) : (
          <Plan
            plan={plan}
            one={text.one}
            isReasonNeeded={text.danger === true || plan.count > 1}
            reason={reason}
            setReason={setReason}
            confirm={confirm}
            setConfirm={setConfirm}
          />
        )}
        {failure !== null && (
          <p class="field-error" role="alert">
            <span aria-hidden="true">▲ </span>
            {failure.message} {failure.hint}
          </p>
        )}
        <div class="dialog-foot">
          {plan !== null && outcome === null && text.fields.length > 0 && (
            <button type="button" class="quiet" onClick={() => setPlan(null)}>
              Back
            </button>
          )}
          <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
            {outcome === null ? 'Cancel' : 'Close'}
          </button>
          {outcome === null && (
            <button
              type="submit"
              class={`primary ${text.danger ? 'danger' : ''}`}
              disabled={
                isBusy ||
                (plan !== null && plan.count === 0) ||
                (plan?.confirm != null && confirm !== plan.confirm) ||
                (plan === null && text.fields.length === 0)
              }
            >
              {plan === null ? 'See what it does' : `${text.label}: ${many(plan.count, text.one)}`}
            </button>
          )}
        </div>
      </form>
    </dialog>
  );
}

function Plan({
  plan,
  one,
  isReasonNeeded,
  reason,
  setReason,
  confirm,
  setConfirm,
}: {
  plan: ActionPlan;
  one: string;
  isReasonNeeded: boolean;
  reason: string;
  setReason: (text: string) => void;
  confirm: string;
  setConfirm: (text: string) => void;
}) {
  return (
    <div class="plan">
      <p>
        <strong>{plan.summary}</strong>
      </p>
      {plan.first.length > 0 && (
        <ul class="first">
          {plan.first.map((line) => (
            <li key={line}>
              <code>{visible(line)}</code>
            </li>
          ))}
          {plan.count > plan.first.length && (
            <li class="muted">and {many(plan.count - plan.first.length, one)} more</li>
          )}
        </ul>
      )}
      {plan.impossible.length > 0 && (
        <div class="impossible">
          <p>
            <span aria-hidden="true">▲ </span>Not possible:
          </p>
          <ul>
            {plan.impossible.slice(0, 20).map(({ what, why }) => (
              <li key={what}>
                <code>{visible(what)}</code>: {why}
              </li>
            ))}
            {plan.impossible.length > 20 && <li>and {count(plan.impossible.length - 20)} more</li>}
          </ul>
        </div>
      )}
      <div class="field">
        <label for="action-reason">Why (kept in the audit)</label>
        <input
          id="action-reason"
          type="text"
          value={reason}
          required={isReasonNeeded}
          maxLength={500}
          autocomplete="off"
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </div>
      {plan.confirm !== null && (
        <div class="field">
          <label for="action-confirm">
            Type <code>{visible(plan.confirm)}</code> to confirm
          </label>
          <input
            id="action-confirm"
            type="text"
            value={confirm}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setConfirm(event.currentTarget.value)}
          />
        </div>
      )}
    </div>
  );
}

function Outcome({ verb, outcome }: { verb: Verb; outcome: ActionOutcome }) {
  return (
    <div>
      <p>
        <strong>
          {many(outcome.done, VERBS[verb].one)} {VERBS[verb].done}, {count(outcome.failed.length)}{' '}
          not.
        </strong>
      </p>
      <ul class="first">
        {outcome.failed.slice(0, 50).map(({ what, why }) => (
          <li key={what}>
            <code>{visible(what)}</code>: {why}
          </li>
        ))}
      </ul>
    </div>
  );
}

export function tell(verb: Verb, outcome: ActionOutcome): void {
  const { one, done } = VERBS[verb];
  if (outcome.job !== null) {
    announce(`Started: ${outcome.job.summary}`);
    return;
  }
  const failed = outcome.failed.length === 0 ? '' : `, ${count(outcome.failed.length)} not`;
  announce(`${many(outcome.done, one)} ${done}${failed}`);
}
