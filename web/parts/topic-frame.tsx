/** What the pages of one topic share: the way to it, its parts, and its actions. */
import type { ComponentChildren } from 'preact';
import { visible } from '../state/format.ts';
import { go, part, place } from '../state/router.ts';
import { missing } from '../state/session.ts';
import { Action } from './actions/action.tsx';
import { Page, Tabs } from './page.tsx';

export function TopicFrame({
  topic,
  api,
  children,
  changed,
}: {
  topic: string;
  api: readonly string[];
  children: ComponentChildren;
  changed?: () => void;
}) {
  const base = `/topics/${part(topic)}`;
  const { path } = place.value;
  const is = (to: string) => path === to;
  const tabs = [
    { text: 'Facts and groups', to: base, is: is(base) },
    ...(missing('browse') === null
      ? [{ text: 'Messages', to: `${base}/messages`, is: is(`${base}/messages`) }]
      : []),
    ...(missing('schedule') === null
      ? [{ text: 'Scheduled', to: `${base}/scheduled`, is: is(`${base}/scheduled`) }]
      : []),
  ];
  const done = changed === undefined ? {} : { done: changed };
  const about = visible(topic);
  return (
    <Page
      title={visible(topic)}
      kind="topic"
      crumbs={[{ text: 'Topics', to: '/topics' }]}
      api={api}
      actions={
        <>
          <Action verb="topic.publish" target={{ topic }} about={about} {...done} />
          {missing('schedule') === null && (
            <Action verb="topic.schedule" target={{ topic }} about={about} {...done} />
          )}
          <Action verb="group.create" target={{ topic }} about={about} {...done} />
          <Action verb="topic.retention" target={{ topic }} about={about} {...done} />
          <Action verb="topic.delete" target={{ topic }} about={about} done={() => go('/topics')} />
        </>
      }
    >
      <Tabs tabs={tabs} />
      {children}
    </Page>
  );
}
