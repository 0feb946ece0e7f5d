/**
 * Actions on an instance of a workflow: signal, cancel, pause, resume, retry from a step, fork, move.
 *
 * Invariants: an action that the state of the instance does not allow is refused when it is planned; the
 * console's own connection does it, so the viewer needs the right to write to the workflow's keys.
 */
import { RivuletError } from '../../errors.ts';
import type { WorkflowHandle } from '../../workflow/handle.ts';
import { journalKey } from '../../workflow/journal/keys.ts';
import { type ActionKind, allow, type Plan, textOption } from '../actions/plan.ts';
import type { Verb } from '../api-types.ts';
import type { WorkflowView } from './workflow-view.ts';

type Options = Readonly<Record<string, unknown>>;

export function workflowActions(view: WorkflowView): ActionKind[] {
  const kind = (
    verb: Verb,
    does: string,
    reversible: boolean,
    run: (handle: WorkflowHandle, options: Options) => Promise<string | null>,
  ): ActionKind => ({
    verb,
    command: ['XADD', 'x', '*', 'body', ''],
    needs: 'workflows',
    role: 'operate',
    async plan({ viewer, target, options }): Promise<Plan> {
      const { workflow = '', instance = '' } = target;
      if (!viewer.seesAll) {
        const text = 'workflows are changed by users who may read every topic';
        throw new RivuletError('PERMISSION_DENIED', text);
      }
      allow(viewer, 'XADD', journalKey(workflow, instance), '*', 'body', '');
      const info = await view.info(workflow, instance);
      const allowed = ALLOWED[verb] ?? [];
      if (allowed.length > 0 && !allowed.includes(info.status)) {
        throw new RivuletError(
          'FAILED_PRECONDITION',
          `${workflow}/${instance} is ${info.status}: ${does} needs ${allowed.join(' or ')}`,
        );
      }
      if (verb === 'workflow.move') await view.checkMove(workflow, instance, versionOf(options));
      if (verb === 'workflow.signal') textOption(options, 'name', 'the name of the signal');
      const shown = `${workflow}/${instance}`;
      const how = verb === 'workflow.move' ? moves(info.version, versionOf(options)) : '';
      const summary = `${does} ${shown}, which is ${info.status}${how}`;
      return {
        items: [shown],
        first: [summary],
        target: shown,
        summary,
        reversible,
        async run() {
          const handle = (await view.open()).get(workflow, instance);
          if (verb !== 'workflow.move') return run(handle, options);
          await view.move(workflow, instance, versionOf(options));
          return null;
        },
      };
    },
  });
  return [
    kind('workflow.signal', 'signal', false, async (handle, options) => {
      await handle.signal(String(options.name), options.value);
      return null;
    }),
    kind('workflow.cancel', 'cancel', false, async (handle, { reason }) => {
      await handle.cancel(typeof reason === 'string' && reason !== '' ? reason : 'cancelled');
      return null;
    }),
    kind('workflow.pause', 'pause', true, async (handle) => {
      await handle.pause();
      return null;
    }),
    kind('workflow.resume', 'resume', true, async (handle) => {
      await handle.resume();
      return null;
    }),
    kind('workflow.retry', 'retry', false, async (handle, options) => {
      const from = fromOf(options);
      await handle.retry(from === null ? {} : { from });
      return null;
    }),
    kind('workflow.fork', 'fork', true, async (handle, options) => {
      const from = fromOf(options);
      if (from === null) throw new RivuletError('INVALID_ARGUMENT', 'from names a step');
      const { id } = options;
      const more = typeof id === 'string' && id !== '' ? { id } : {};
      return (await handle.fork({ from, ...more })).id;
    }),
    kind('workflow.move', 'move', true, async () => null),
  ];
}

const ALLOWED: Partial<Record<Verb, readonly string[]>> = {
  'workflow.signal': ['running', 'paused', 'parked'],
  'workflow.cancel': ['running', 'paused', 'parked'],
  'workflow.pause': ['running'],
  'workflow.resume': ['paused'],
  'workflow.move': ['running', 'paused', 'parked'],
};

function versionOf({ version }: Options): number {
  if (typeof version === 'number' && Number.isSafeInteger(version) && version > 0) return version;
  throw new RivuletError('INVALID_ARGUMENT', 'version is a whole number from 1 on');
}

/** The code is not here, so its journal is not compared before it is moved. */
function moves(from: number, to: number): string {
  return `, from version ${from} to ${to}: where that code does not follow its history it is parked, with the difference`;
}

function fromOf({ from }: Options): string | number | null {
  if (typeof from === 'number') return from;
  if (typeof from !== 'string' || from === '') return null;
  return /^\d+$/.test(from) ? Number(from) : from;
}
