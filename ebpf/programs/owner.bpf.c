/* Who owns a session.
 *
 * Asked only where the running task must be the owner: at connect, at reads and writes, at close. In a softirq the
 * running task is whoever was interrupted; on loopback that is the peer.
 */

#define KERNEL_THREAD 0x00200000 /* PF_KTHREAD */

/* An index that the verifier believes: the compiler, which knows it is small, would take the mask away. */
static __always_inline u32 within(u32 index, u32 room)
{
	asm volatile("" : "+r"(index));
	return index & (room - 1);
}

/* Names from the program's file up to its process's own root, crossing mounts. Their count is kept in memory, because
 * what comes from there is any number to the verifier: it need not follow each way through both loops.
 */
static __always_inline void collect_names(struct workshop *shop, u64 task)
{
	u64 mm = 0, file = 0, fs = 0, dentry = 0, mount = 0, root_dentry = 0, root_mount = 0;
	int step;

	shop->count = shop->complete = 0;
	PEEK(mm, ((struct task_struct *)task)->mm);
	PEEK(file, ((struct mm_struct *)mm)->exe_file);
	PEEK(fs, ((struct task_struct *)task)->fs);
	if (!mm || !file || !fs)
		return;
	PEEK(dentry, ((struct file *)file)->f_path_dentry);
	PEEK(mount, ((struct file *)file)->f_path_mnt);
	PEEK(root_dentry, ((struct fs_struct *)fs)->root_dentry);
	PEEK(root_mount, ((struct fs_struct *)fs)->root_mnt);
	for (step = 0; step < MOST_STEPS; step++) {
		u64 top = 0, parent = 0, outer;

		if (dentry == root_dentry && mount == root_mount) {
			shop->complete = 1;
			break;
		}
		PEEK(top, ((struct vfsmount *)mount)->mnt_root);
		PEEK(parent, ((struct dentry *)dentry)->d_parent);
		if (dentry == top || dentry == parent) {
			outer = mount - __builtin_offsetof(struct mount, mnt);
			PEEK(parent, ((struct mount *)outer)->mnt_parent);
			if (parent == outer) {
				shop->complete = 1;
				break;
			}
			PEEK(dentry, ((struct mount *)outer)->mnt_mountpoint);
			mount = parent + __builtin_offsetof(struct mount, mnt);
			continue;
		}
		PEEK(shop->names[within(shop->count, MOST_NAMES)], ((struct dentry *)dentry)->d_name_name);
		shop->count++;
		dentry = parent;
	}
}

/* A path that was cut does not begin with a slash. */
static __always_inline void write_path(struct workshop *shop)
{
	int step;

	shop->length = 0;
	shop->owner.executable[0] = 0;
	for (step = 0; step < MOST_STEPS; step++) {
		long length;

		if (!shop->count || shop->length >= PATH_ROOM - 2)
			break;
		shop->count--;
		if (step || shop->complete) {
			shop->owner.executable[within(shop->length, PATH_ROOM)] = '/';
			shop->length++;
		}
		length = bpf_probe_read_kernel_str(&shop->owner.executable[within(shop->length, PATH_ROOM)], PATH_ROOM,
						   (void *)shop->names[within(shop->count, MOST_NAMES)]);
		if (length < 1)
			break;
		shop->length += length - 1;
	}
	shop->owner.executable[PATH_ROOM - 1] = 0;
}

static __always_inline void describe_owner(struct workshop *shop, u64 task, u64 started_ns)
{
	u64 cred = 0, css = 0, cgroup = 0, node = 0, name = 0;

	shop->owner.started_ns = started_ns;
	PEEK(cred, ((struct task_struct *)task)->cred);
	PEEK(shop->owner.uid, ((struct cred *)cred)->uid_val);
	PEEK(css, ((struct task_struct *)task)->cgroups);
	PEEK(cgroup, ((struct css_set *)css)->dfl_cgrp);
	PEEK(node, ((struct cgroup *)cgroup)->kn);
	PEEK(name, ((struct kernfs_node *)node)->name);
	shop->owner.cgroup[0] = 0;
	bpf_probe_read_kernel_str(shop->owner.cgroup, CGROUP_ROOM, (void *)name);
	collect_names(shop, task);
	write_path(shop);
}

/* Once a process, not once a session: the path costs as much as all the rest. At one place in a program, because the
 * verifier walks every copy.
 */
static __always_inline void remember_owner(struct task_struct *task)
{
	struct task_struct *leader = (void *)task->group_leader;
	u64 started_ns = leader->start_boottime;
	struct workshop *shop;
	struct owner *owner;
	u32 pid = task->tgid;
	int only = 0;

	shop = workshops.lookup(&only);
	if (!shop)
		return;
	/* The last one on this CPU is looked up only now and then, to stay in use. */
	if (shop->last_pid == pid && shop->last_started_ns == started_ns && ++shop->again & 63)
		return;
	owner = owners.lookup(&pid);
	if (!owner || owner->started_ns != started_ns) {
		describe_owner(shop, (u64)task, started_ns);
		owners.update(&pid, &shop->owner);
	}
	shop->last_pid = pid;
	shop->last_started_ns = started_ns;
}

static __always_inline void remember_current(void)
{
	remember_owner((void *)bpf_get_current_task_btf());
}

static __always_inline void copy_16(void *to, void *from)
{
	((u64 *)to)[0] = ((u64 *)from)[0];
	((u64 *)to)[1] = ((u64 *)from)[1];
}

/* The process's name, not the thread's, because programs name their threads after what these do. */
static __always_inline void name_owner(struct session *session, struct task_struct *task, u8 evidence)
{
	struct task_struct *leader = (void *)task->group_leader;

	session->thread = task->pid;
	session->pid = task->tgid;
	session->owner_started_ns = leader->start_boottime;
	copy_16(session->command, leader->comm);
	session->owner_evidence = evidence;
}

/* Name the running task as the owner, unless evidence as strong names it or another already. Who reads or writes
 * takes a session over: it was handed on by fork or SCM_RIGHTS. Gives whether it was named.
 */
static __always_inline int claim(struct session *session, u8 evidence)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct task_struct *task;

	if (session->owner_evidence >= evidence && (evidence != OWNER_IO || session->pid == pid))
		return 0;
	task = (void *)bpf_get_current_task_btf();
	if (session->pid && task->flags & KERNEL_THREAD)
		return 0;
	name_owner(session, task, evidence);
	return 1;
}
