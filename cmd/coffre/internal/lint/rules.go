package lint

// Severity is how sure it is that a finding hurts.
type Severity string

// Severities. An error is what the cluster or the provider is sure to refuse; a
// warning works and will hurt; a note says what depends on something outside of
// the files, and fails nothing.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Rule is one kind of mistake.
type Rule struct {
	ID       string
	Severity Severity
	Summary  string // what is found, for the table in docs/lint.md
	Happens  string // what happens to the user
	Remedy   string // what to do, where it is the same for all findings
}

// The rules by their constants, so that a finding cannot name one that the
// table lacks.
const (
	fileUnreadable     = "file-unreadable"
	fileTooLarge       = "file-too-large"
	yamlSyntax         = "yaml-syntax"
	yamlKeyTwice       = "yaml-key-twice"
	helmTemplate       = "helm-template"
	helmChart          = "helm-chart"
	nothingToCheck     = "nothing-to-check"
	classAPIVersion    = "class-api-version"
	classDeprecated    = "class-api-deprecated"
	classKind          = "class-kind"
	classField         = "class-field"
	className          = "class-name"
	classText          = "class-parameter-text"
	classProvider      = "class-provider"
	classUnserved      = "class-provider-unserved"
	classRefused       = "class-refused"
	classIgnored       = "class-ignored"
	classPlaceholder   = "class-placeholder"
	classTwice         = "class-twice"
	secretIncomplete   = "secret-object-incomplete"
	secretFile         = "secret-object-file"
	secretKeyTwice     = "secret-object-key-twice"
	secretTwice        = "secret-object-twice"
	storesRefused      = "stores-refused"
	storeUnknown       = "store-unknown"
	storeNamespace     = "store-namespace"
	storesOutside      = "stores-outside"
	mountReadOnly      = "mount-read-only"
	mountClass         = "mount-class"
	mountClassElse     = "mount-class-elsewhere"
	mountClassUnknown  = "mount-class-unknown"
	mountClassAbsent   = "mount-class-absent"
	mountClassOutside  = "mount-class-outside"
	mountSecret        = "mount-publish-secret"
	mountSecretOutside = "mount-publish-secret-outside"
	mountAttributes    = "mount-attributes"
	mountSubPath       = "mount-sub-path"
	mountMode          = "mount-mode"
	referenceKey       = "reference-key"
	referenceName      = "reference-name"
	referenceUnmounted = "reference-unmounted"
)

// Rules is the table that docs/lint.md, the reports and the checks are made from.
func Rules() []Rule {
	return []Rule{
		{fileUnreadable, Error, "a file or folder that cannot be read", "Nothing in it was checked.", ""},
		{fileTooLarge, Error, "a file over 32 MiB, a document over 16 MiB, aliases that grow without bounds", "It was not checked.", "Split it; the API server takes objects of about 1.5 MiB."},
		{yamlSyntax, Error, "a document that is no YAML", "kubectl and Helm refuse it; nothing in it was checked.", ""},
		{yamlKeyTwice, Warning, "a key that stands twice in one mapping", "The last one wins, and what the first said is lost without a word.", "Begin a second entry with a dash of its own, or take one away."},
		{helmTemplate, Error, "a Helm template that was not rendered", "kubectl refuses it; nothing in it was checked.", ""},
		{helmChart, Warning, "a Helm chart with SecretProviderClasses or volumes of them in a folder", "Nothing in its templates was checked.", ""},
		{nothingToCheck, Warning, "files that hold nothing to check", "A mistake in another file would not be seen.", "Name the files with SecretProviderClasses, workloads or stores."},
		{classAPIVersion, Error, "an apiVersion that the driver's CRD lacks", "kubectl says: no matches for kind \"SecretProviderClass\".", "Write secrets-store.csi.x-k8s.io/v1."},
		{classDeprecated, Warning, "the deprecated apiVersion v1alpha1", "The driver still serves it, and says that it will go.", "Write secrets-store.csi.x-k8s.io/v1."},
		{classKind, Error, "a misspelt kind", "kubectl says: no matches for kind.", "Write kind: SecretProviderClass."},
		{classField, Error, "a field that a SecretProviderClass does not have, or of another type than it takes", "kubectl apply refuses it (strict decoding error), and where validation is off the field is dropped.", ""},
		{className, Error, "a SecretProviderClass without a name or a provider", "The API server, or the driver when a pod mounts it, refuses it.", ""},
		{classText, Error, "a parameter that is no text: true, a number, a list, a mapping", "The API server refuses the class: spec.parameters must be of type string.", ""},
		{classProvider, Error, "a provider that is misspelt", "The driver says: provider not found, and the pod does not start.", ""},
		{classUnserved, Note, "a provider that this build has no dialect of", "What its parameters say was not checked.", ""},
		{classRefused, Error, "what the provider refuses when a pod mounts the class", "Pods that mount the class do not start; those that run keep their files, which are refreshed no more.", ""},
		{classIgnored, Warning, "what the provider takes and ignores: misspelt or misplaced fields", "It has no effect, without a word from anybody.", ""},
		{classPlaceholder, Error, "a placeholder that nobody filled in", "It reaches the provider as it stands, and is looked for under that name.", "Write the value."},
		{classTwice, Error, "one SecretProviderClass twice in a file or folder", "The one that is applied last takes the other's place.", "Rename one, or take it away."},
		{secretIncomplete, Error, "an entry of secretObjects that lacks a part, or has an unknown one", "The driver makes no Secret of it: pods that read the Secret do not start.", ""},
		{secretFile, Error, "an objectName that no object of the class makes", "The driver makes no Secret: file matching objectName not found in the pod.", ""},
		{secretKeyTwice, Error, "a key of a Secret that is made twice", "The last one wins, and what the first said is lost.", ""},
		{secretTwice, Warning, "one Secret that two classes make", "Each overwrites the other's keys, over and over.", "Give one of them another secretName."},
		{storesRefused, Error, "a store that Coffre refuses", "A provider that starts does without it; one that runs keeps its last good configuration.", ""},
		{storeUnknown, Error, "a store that the platform's configuration beside it does not have", "Pods that mount the class do not start: no store of this name is configured.", ""},
		{storeNamespace, Error, "a namespace that the store does not list", "Pods that mount the class do not start: the namespace may not use this store.", "Let the platform add the namespace to the store's namespaces."},
		{storesOutside, Note, "stores that are in none of the files", "Whether they exist, and let these namespaces in, was not checked.", "Name the platform's values too."},
		{mountReadOnly, Error, "a volume that is not readOnly: true", "The driver refuses the volume, and the pod does not start.", ""},
		{mountClass, Error, "a volume that names no SecretProviderClass", "The driver refuses the volume, and the pod does not start.", ""},
		{mountClassElse, Error, "a class that stands in another namespace than its pod", "A class is found in the pod's own namespace only: the pod does not start.", ""},
		{mountClassUnknown, Error, "a class's name that is one slip away from one that there is", "The pod waits for a class that does not exist.", ""},
		{mountClassAbsent, Warning, "a class that is in none of the files, though others of the namespace are", "Unless it is in the cluster the pod waits for it.", ""},
		{mountClassOutside, Note, "a class where no class of the namespace is in the files", "Whether it exists, and what it says, was not checked.", ""},
		{mountSecret, Error, "a volume without the nodePublishSecretRef that its store needs", "The mount is refused: no key was given.", ""},
		{mountSecretOutside, Warning, "a nodePublishSecretRef to a Secret that the files have in another namespace only", "The Secret is looked for in the pod's namespace: the pod waits for it.", ""},
		{mountAttributes, Error, "volumeAttributes that make of the class what the provider refuses", "They override the class's parameters in this pod, which does not start.", ""},
		{mountSubPath, Warning, "a file mounted by subPath", "It never sees a new value.", "Mount the folder."},
		{mountMode, Warning, "a mode that the pod's user cannot read", "The application gets: permission denied.", ""},
		{referenceKey, Error, "a secretKeyRef to a key that no secretObjects makes", "The container does not start: CreateContainerConfigError, couldn't find key.", ""},
		{referenceName, Warning, "a secretKeyRef to a Secret whose name is one slip away from one that is made", "Unless the Secret is in the cluster the container does not start.", ""},
		{referenceUnmounted, Warning, "a Secret that no pod of these files causes to be made", "The driver makes it while a pod mounts the class: without one the container does not start.", ""},
	}
}

func rule(id string) Rule {
	for _, r := range Rules() {
		if r.ID == id {
			return r
		}
	}
	panic("lint: no rule " + id)
}
