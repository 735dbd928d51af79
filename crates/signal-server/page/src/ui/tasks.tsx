// Push tasks: the server composes a picture and pushes it elsewhere. In: the tasks of the channel. Out: the state of each, its
// layout as a drawing that follows the fields, and calls that add, change and end a task. Deliberately absent: layouts of tasks
// that another page added, because the server does not report them.

import type { RtmpTask, TaskInfo, Uid } from 'lianmai/web'
import { useState } from 'preact/hooks'
import type { Room } from '../room/room.js'
import { useText, type Key } from '../text/index.js'
import { Field, Icon, Panel, TECHNICAL_INPUT } from './parts.js'

type Layout = RtmpTask['layout']
type Window = Layout['users'][number]

const STATES: { [state: string]: Key } = {
  idle: 'taskIdle', starting: 'taskStarting', pushing: 'taskPushing', retrying: 'taskRetrying', failed: 'taskFailed',
}
const TONES: { [state: string]: string } = { pushing: 'live', retrying: 'warn', failed: 'warn' }
/** The maximum number of windows with picture and sound that a server allows in one task. */
const MAX_WINDOWS = 7
/** The `code` of a task with an image that cannot be used. */
const IMAGE_FAILED = 512

/** A layout of all members on air side by side, in two rows if there are more than three. */
function sideBySide(uids: Uid[], width = 1280, height = 720): Layout {
  const shown = uids.slice(0, MAX_WINDOWS)
  const columns = shown.length > 3 ? Math.ceil(shown.length / 2) : Math.max(shown.length, 1)
  const rows = shown.length > columns ? 2 : 1
  const even = (pixels: number) => pixels - (pixels % 2)
  const [w, h] = [even(Math.floor(width / columns)), even(Math.floor(height / rows))]
  const users = shown.map((uid, at): Window => ({
    uid, x: w * (at % columns), y: h * Math.floor(at / columns), width: w, height: h, adaption: 1, zOrder: 0, pushAudio: true, pushVideo: true,
  }))
  return { canvas: { width, height, color: 0 }, users }
}

function uidsOnAir(room: Room): Uid[] {
  return room.members.filter(({ streams }) => streams.includes('audio') || streams.includes('video')).map(({ uid }) => uid)
}

export function Tasks({ room }: { room: Room }) {
  const t = useText()
  return (
    <Panel id="tasks" title={t('tasks')}>
      <p>{t('tasksIntro')}</p>
      {room.tasks.length === 0 ? <p class="hint">{t('noTasks')}</p> : (
        <ul class="tasks">{room.tasks.map((task) => <Task key={task.taskId} room={room} task={task} />)}</ul>
      )}
      {room.role === 'broadcaster' && <NewTask room={room} />}
    </Panel>
  )
}

function Task({ room, task }: { room: Room; task: TaskInfo }) {
  const t = useText()
  const own = room.ownTasks.get(task.taskId)
  const lastEvent = room.lastTaskEvents.get(task.taskId)
  const state = task.state ?? 'idle'
  const mayChange = task.uid === room.ownUid || room.isModerator
  return (
    <li data-task={task.taskId} data-state={state}>
      <p>
        <span class="who">{task.taskId}</span>{' '}
        <span class={`tag ${TONES[state] ?? ''}`}>{STATES[state] ? t(STATES[state]) : state}</span>{' '}
        {task.retries ? <span class="tag warn">{t('taskRetries', { count: task.retries })}</span> : null}{' '}
        <span class="hint">{task.uid === undefined ? t('taskOfServer') : t('taskOf', { name: room.nameOf(task.uid) })}</span>
      </p>
      {lastEvent && <p class="hint">{lastEvent.streamUrl} · {lastEvent.msg}</p>}
      {task.code === IMAGE_FAILED && <p class="hint">{t('taskImage')}</p>}
      {own ? <Edit room={room} task={own} /> : <p class="hint">{t('taskUnknownLayout')}</p>}
      {mayChange && <button type="button" class="danger" onClick={() => room.deleteTask(task.taskId)}>{t('taskDelete', { task: task.taskId })}</button>}
    </li>
  )
}

/** The layout of a task of this page: drawn as its fields say, and applied when the user submits it. */
function Edit({ room, task }: { room: Room; task: RtmpTask }) {
  const t = useText()
  const [layout, setLayout] = useState(task.layout)
  return (
    <>
      <LayoutPreview room={room} label={t('taskLayout', { task: task.taskId })} layout={layout} />
      <details>
        <summary>{t('taskEdit', { task: task.taskId })}</summary>
        <form onSubmit={(event) => {
          event.preventDefault()
          void room.updateTask({ ...task, layout })
        }}>
          <Fields room={room} layout={layout} onChange={setLayout} />
          <button type="submit" class="main">{t('taskUpdate')}</button>
        </form>
      </details>
    </>
  )
}

function NewTask({ room }: { room: Room }) {
  const t = useText()
  /** The layout that the user changed; null: the layout shows all members on air. */
  const [changed, setChanged] = useState<Layout | null>(null)
  const layout = changed ?? sideBySide(uidsOnAir(room))
  const add = async (event: SubmitEvent) => {
    event.preventDefault()
    const form = event.currentTarget as HTMLFormElement
    const values = new FormData(form)
    const task: RtmpTask = { taskId: String(values.get('taskId')), streamUrl: String(values.get('streamUrl')), layout }
    if (!await room.addTask(task)) return
    form.reset()
    setChanged(null)
  }
  return (
    <form onSubmit={add}>
      <Field label={t('taskId')}>{(id) => <input {...id} name="taskId" required maxLength={64} pattern="[A-Za-z0-9_]+" {...TECHNICAL_INPUT} />}</Field>
      <Field label={t('taskUrl')} hint={t('taskUrlHint')}>{(id) => <input {...id} name="streamUrl" required maxLength={2048} {...TECHNICAL_INPUT} />}</Field>
      <LayoutPreview room={room} label={t('taskLayout', { task: t('taskNew') })} layout={layout} />
      <details>
        <summary>{t('taskEdit', { task: t('taskNew') })}</summary>
        <Fields room={room} layout={layout} onChange={setChanged} />
      </details>
      <button type="submit" class="main">{t('taskAdd')}</button>
    </form>
  )
}

/** Draws a layout. A member that is not on air has an empty frame. */
function LayoutPreview({ room, label, layout }: { room: Room; label: string; layout: Layout }) {
  const { canvas } = layout
  const air = new Set(uidsOnAir(room))
  const color = `#${(canvas.color ?? 0).toString(16).padStart(6, '0')}`
  const users = layout.users.map((user, at) => ({ user, at })).sort((a, b) => (a.user.zOrder ?? 0) - (b.user.zOrder ?? 0) || a.at - b.at)
  return (
    <svg class="layout" role="img" aria-label={label} viewBox={`0 0 ${Math.max(canvas.width, 1)} ${Math.max(canvas.height, 1)}`}>
      <rect width={canvas.width} height={canvas.height} fill={color} />
      {users.map(({ user }) => (
        <g key={String(user.uid)} data-uid={String(user.uid)}>
          <rect class={air.has(user.uid as Uid) && user.pushVideo ? 'window' : 'window away'} x={user.x} y={user.y} width={user.width} height={user.height} stroke-width="4" />
          <text x={user.x + 16} y={user.y + 40}>{room.nameOf(user.uid as Uid)}</text>
        </g>
      ))}
    </svg>
  )
}

function Fields({ room, layout, onChange }: { room: Room; layout: Layout; onChange: (layout: Layout) => void }) {
  const t = useText()
  const { canvas, users } = layout
  const setCanvas = (change: Partial<Layout['canvas']>) => onChange({ ...layout, canvas: { ...canvas, ...change } })
  const setUser = (at: number, change: Partial<Window>) => onChange({ ...layout, users: users.map((user, i) => (i === at ? { ...user, ...change } : user)) })
  const others = room.members.map(({ uid }) => uid).filter((uid) => users.every((user) => user.uid !== uid))
  return (
    <>
      <div class="row">
        <Pixels label={t('canvasWidth')} value={canvas.width} max={1920} onChange={(width) => setCanvas({ width })} />
        <Pixels label={t('canvasHeight')} value={canvas.height} max={1920} onChange={(height) => setCanvas({ height })} />
      </div>
      {users.map((user, at) => {
        const name = room.nameOf(user.uid as Uid)
        return (
          <fieldset key={String(user.uid)} class="window-fields">
            <legend>{t('windowOf', { name })}</legend>
            <div class="row">
              <Pixels label={t('windowX')} value={user.x} max={1920} onChange={(x) => setUser(at, { x })} />
              <Pixels label={t('windowY')} value={user.y} max={1920} onChange={(y) => setUser(at, { y })} />
              <Pixels label={t('windowWidth')} value={user.width} max={1920} onChange={(width) => setUser(at, { width })} />
              <Pixels label={t('windowHeight')} value={user.height} max={1920} onChange={(height) => setUser(at, { height })} />
              <Pixels label={t('windowZ')} value={user.zOrder ?? 0} max={100} onChange={(zOrder) => setUser(at, { zOrder })} />
            </div>
            <div class="row">
              <Field label={t('windowAdaption')}>
                {(id) => (
                  <select {...id} value={String(user.adaption ?? 1)} onChange={(event) => setUser(at, { adaption: event.currentTarget.value === '0' ? 0 : 1 })}>
                    <option value="1">{t('windowCrop')}</option>
                    <option value="0">{t('windowFit')}</option>
                  </select>
                )}
              </Field>
              <Check label={t('windowSeen')} value={user.pushVideo} onChange={(pushVideo) => setUser(at, { pushVideo })} />
              <Check label={t('windowHeard')} value={user.pushAudio} onChange={(pushAudio) => setUser(at, { pushAudio })} />
              <button type="button" class="icon" aria-label={t('windowRemove', { name })} onClick={() => onChange({ ...layout, users: users.filter((_, i) => i !== at) })}><Icon name="close" /></button>
            </div>
          </fieldset>
        )
      })}
      {others.length > 0 && users.length < MAX_WINDOWS && (
        <Field label={t('windowAdd')}>
          {(id) => (
            <select {...id} value="" onChange={(event) => {
              const uid = others.find((other) => String(other) === event.currentTarget.value)
              if (uid === undefined) return
              const added: Window = { uid, x: 0, y: 0, width: 320, height: 180, adaption: 1, zOrder: 1, pushAudio: true, pushVideo: true }
              onChange({ ...layout, users: [...users, added] })
            }}>
              <option value="">–</option>
              {others.map((uid) => <option key={String(uid)} value={String(uid)}>{room.nameOf(uid)}</option>)}
            </select>
          )}
        </Field>
      )}
    </>
  )
}

function Pixels(props: { label: string; value: number; max: number; onChange: (value: number) => void }) {
  return (
    <Field label={props.label}>
      {(id) => (
        <input
          {...id} type="number" min={0} max={props.max} value={props.value}
          onInput={(event) => {
            const { valueAsNumber } = event.currentTarget
            if (Number.isInteger(valueAsNumber) && valueAsNumber >= 0 && valueAsNumber <= props.max) props.onChange(valueAsNumber)
          }}
        />
      )}
    </Field>
  )
}

function Check(props: { label: string; value: boolean; onChange: (value: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={props.value} onChange={(event) => props.onChange(event.currentTarget.checked)} />
      <span>{props.label}</span>
    </label>
  )
}
