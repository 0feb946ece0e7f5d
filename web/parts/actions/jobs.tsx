/** Jobs that run in the background: how far they are, a button that stops them, what they could not do. */
import { useState } from 'preact/hooks';
import type { Job } from '../../../src/console/api-types.ts';
import { announce } from '../../state/announce.ts';
import { failureOf, post } from '../../state/api.ts';
import { count, visible } from '../../state/format.ts';
import { useResource } from '../../state/resource.ts';
import { root } from '../../state/session.ts';

export function Jobs() {
  const mayAct = (root.value?.verbs.length ?? 0) > 0;
  const jobs = useResource<readonly Job[]>(mayAct ? '/jobs' : null, mayAct ? 'jobs' : null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const shown = (jobs.value ?? []).filter(({ id }) => !hidden.has(id)).slice(-3);
  if (shown.length === 0) return null;
  return (
    <aside class="jobs" aria-label="Jobs">
      {shown.map((job) => (
        <div key={job.id} class="job">
          <div class="job-head">
            <strong>{job.summary}</strong>
            <span class="muted">
              {count(job.done)} of {count(job.total)}
              {job.failed > 0 && `, ${count(job.failed)} failed`}
              {job.state === 'running' ? '' : `, ${job.state}`}
            </span>
            {job.state === 'running' ? (
              <button type="button" class="quiet" onClick={() => stop(job)}>
                Stop
              </button>
            ) : (
              <button
                type="button"
                class="quiet"
                onClick={() => setHidden(new Set([...hidden, job.id]))}
              >
                Hide
              </button>
            )}
          </div>
          <progress
            max={Math.max(1, job.total)}
            value={job.done + job.failed}
            aria-label={job.summary}
          />
          {job.failures.length > 0 && (
            <details>
              <summary>What failed</summary>
              <ul class="first">
                {job.failures.map(({ what, why }) => (
                  <li key={what}>
                    <code>{visible(what)}</code>: {why}
                  </li>
                ))}
              </ul>
            </details>
          )}
        </div>
      ))}
    </aside>
  );
}

async function stop(job: Job): Promise<void> {
  try {
    await post(`/jobs/${job.id}/stop`, {});
    announce(`Stopped: ${job.summary}`);
  } catch (error) {
    announce(failureOf(error).message);
  }
}
